// SPDX-License-Identifier: MIT
#include "host_preload/config.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <iterator>

namespace host_preload {
namespace {

template <typename Value>
struct Choice {
  std::string_view name;
  Value value;
};
constexpr std::array<Choice<ResetRule>, 2> kRules{
    {{"strong", ResetRule::strong}, {"broad", ResetRule::broad}}};
constexpr std::array<Choice<bool>, 2> kOnError{{{"fail", false}, {"continue", true}}};

template <typename Value, std::size_t N>
tl::expected<Value, std::string> choose(const char* variable, const char* text,
                                        const std::array<Choice<Value>, N>& choices) {
  if (text == nullptr || *text == '\0') return choices[0].value;
  for (const auto& choice : choices)
    if (choice.name == text) return choice.value;
  return tl::unexpected(std::string(variable) + "=" + text + ": use " +
                        std::string(choices[0].name) + " or " + std::string(choices[1].name));
}

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

tl::expected<std::vector<PluginSpec>, std::string> parse_plugins(std::string_view text) {
  std::vector<PluginSpec> plugins;
  for (const std::string& entry : split_entries(text)) {
    if (entry.empty()) continue;  // "a.so;" is a list of one
    const std::size_t comma = entry.find(',');
    PluginSpec spec{entry.substr(0, comma),
                    comma == std::string::npos ? "" : entry.substr(comma + 1)};
    if (spec.file.empty())
      return tl::unexpected(std::string(kPluginsVariable) + ": '" + entry +
                            "' names no plugin before its options");
    plugins.push_back(std::move(spec));
  }
  return plugins;
}

bool is_file(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

}  // namespace

Environment read_environment() noexcept {
  return {secure_getenv(kPluginsVariable), secure_getenv(kLogVariable),
          secure_getenv(kRuleVariable), secure_getenv(kOnErrorVariable)};
}

tl::expected<Config, std::string> parse_config(const Environment& environment) {
  Config config;
  const auto plugins = parse_plugins(environment.plugins != nullptr ? environment.plugins : "");
  if (!plugins) return tl::unexpected(plugins.error());
  const auto rule = choose(kRuleVariable, environment.reset_rule, kRules);
  if (!rule) return tl::unexpected(rule.error());
  const auto on_error = choose(kOnErrorVariable, environment.on_error, kOnError);
  if (!on_error) return tl::unexpected(on_error.error());
  config.plugins = *plugins;
  config.log = environment.log != nullptr ? environment.log : "";
  config.rule = *rule;
  config.continue_on_error = *on_error;
  return config;
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

std::vector<std::string> plugin_folders(std::string_view library_folder) {
  const std::string here(library_folder);
  return {here, here + "/../plugin", here + "/../vmm/plugins", VMM_PLUGIN_FOLDER};
}

}  // namespace host_preload
