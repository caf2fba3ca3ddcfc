// SPDX-License-Identifier: MIT
//
// What the operator asked for, read from the environment:
//   VMM_PLUGINS              "svm_pmu.so,key=value,...;other.so,..."; a literal ';' is doubled
//   VMM_PRELOAD_LOG          a file to append to, or "stderr"
//   VMM_PRELOAD_RESET_RULE   "strong" (default) or "broad"
//   VMM_PRELOAD_ON_ERROR     "fail" (default) or "continue": what becomes of the VM when a plugin
//                            cannot be loaded or refuses its options
// What does not parse is a problem, reported when the first VM is made: a helper process that
// merely inherited the variables stays silent.
#pragma once

#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

#include "host_kit/plugin_list.hpp"
#include "host_preload/reset_detector.hpp"

namespace host_preload {

using host_kit::PluginSpec;

struct Config {
  std::vector<PluginSpec> plugins;
  std::string log;  ///< empty = none
  ResetRule rule = ResetRule::strong;
  bool continue_on_error = false;
};

/// Values of the variables; nullptr = not set.
struct Environment {
  const char* plugins = nullptr;
  const char* log = nullptr;
  const char* reset_rule = nullptr;
  const char* on_error = nullptr;
};

constexpr const char* kPluginsVariable = "VMM_PLUGINS";
constexpr const char* kLogVariable = "VMM_PRELOAD_LOG";
constexpr const char* kRuleVariable = "VMM_PRELOAD_RESET_RULE";
constexpr const char* kOnErrorVariable = "VMM_PRELOAD_ON_ERROR";

/// This process's; nothing under AT_SECURE (setuid), as the loader does with LD_PRELOAD.
Environment read_environment() noexcept;

/// Error: one line that names the variable.
tl::expected<Config, std::string> parse_config(const Environment& environment);

/// Folders for bare names, given the one that the preload library is in: that one, the build
/// tree's, the one of this installation, the one that the library was configured for.
std::vector<std::string> plugin_folders(std::string_view library_folder);

}  // namespace host_preload
