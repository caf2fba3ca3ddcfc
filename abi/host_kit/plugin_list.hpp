// SPDX-License-Identifier: MIT
//
// The plugins that an operator asks for, as a text: "file.so,key=value,...;other.so". And where the
// file of each is.
#pragma once

#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

namespace host_kit {

/// One plugin of a list.
struct PluginSpec {
  std::string file;     ///< as written: a name or a path
  std::string options;  ///< "k=v,k=v" or empty
  bool operator==(const PluginSpec&) const = default;
};

/// Plugins are separated by ';'; ";;" is a literal one. Empty entries are left out. Error: one
/// line.
tl::expected<std::vector<PluginSpec>, std::string> parse_plugin_list(std::string_view text);

/// Where a plugin's file is. A path is taken as it is; a bare name is looked for in the folders, in
/// their order, as written and with ".so". Error: one line with what was tried.
tl::expected<std::string, std::string> find_plugin(const std::string& file,
                                                   const std::vector<std::string>& folders);

}  // namespace host_kit
