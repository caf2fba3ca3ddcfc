// SPDX-License-Identifier: MIT
#include "host_kit/plugin_list.hpp"

#include <unistd.h>

#include <utility>

namespace host_kit {
namespace {

/// Splits at ';'; ";;" is a literal one.
std::vector<std::string> split_entries(std::string_view text) {
  std::vector<std::string> entries(1);
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != ';') {
      entries.back() += text[i];
    } else if (i + 1 < text.size() && text[i + 1] == ';') {
      entries.back() += ';';
      ++i;
    } else {
      entries.emplace_back();
    }
  }
  return entries;
}

bool is_file(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

}  // namespace

tl::expected<std::vector<PluginSpec>, std::string> parse_plugin_list(std::string_view text) {
  std::vector<PluginSpec> plugins;
  for (const std::string& entry : split_entries(text)) {
    if (entry.empty()) continue;  // "a.so;" is a list of one
    const std::size_t comma = entry.find(',');
    PluginSpec spec{entry.substr(0, comma),
                    comma == std::string::npos ? "" : entry.substr(comma + 1)};
    if (spec.file.empty())
      return tl::unexpected("'" + entry + "' names no plugin before its options");
    plugins.push_back(std::move(spec));
  }
  return plugins;
}

tl::expected<std::string, std::string> find_plugin(const std::string& file,
                                                   const std::vector<std::string>& folders) {
  if (file.find('/') != std::string::npos) {
    if (is_file(file)) return file;
    return tl::unexpected("there is no file '" + file + "'");
  }
  std::string tried;
  for (const std::string& folder : folders) {
    for (const char* suffix : {"", ".so"})
      if (std::string path = folder + "/" + file + suffix; is_file(path)) return path;
    tried += (tried.empty() ? "" : ", ") + folder;
  }
  return tl::unexpected("there is no '" + file + "' in " + tried);
}

}  // namespace host_kit
