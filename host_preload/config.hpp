// SPDX-License-Identifier: MIT
//
// What the operator asked for, from the environment and from the configuration file:
//   VMM_PLUGINS              "svm_pmu.so,key=value,...;other.so,..."; a literal ';' is doubled
//   VMM_PRELOAD_LOG          a file to append to, "stderr" or "journal"
//   VMM_PRELOAD_RESET_RULE   "strong" (default) or "broad"
//   VMM_PRELOAD_ON_ERROR     "fail" (default) or "continue": what becomes of the VM when a plugin
//                            cannot be loaded or refuses its options
//   VMM_PLUGINS_CONFIG       the configuration file, in place of /etc/vmm-plugins.conf; empty: none
// Where VMM_PLUGINS is set, the file is not read at all. The other variables go before what the
// file says.
//
// What does not parse is a problem, reported when the first VM is made: a helper process that
// merely inherited the variables stays silent.
#pragma once

#include <array>
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
  std::string file;  ///< the configuration file that was read; empty = none
  /// What does not parse or may not be read, a line each with the variable or the file and its
  /// line. The other fields then hold what could be read.
  std::vector<std::string> problems;
};

/// Values of the variables; nullptr = not set.
struct Environment {
  const char* plugins = nullptr;
  const char* log = nullptr;
  const char* reset_rule = nullptr;
  const char* on_error = nullptr;
  const char* config_file = nullptr;
};

constexpr const char* kPluginsVariable = "VMM_PLUGINS";
constexpr const char* kLogVariable = "VMM_PRELOAD_LOG";
constexpr const char* kRuleVariable = "VMM_PRELOAD_RESET_RULE";
constexpr const char* kOnErrorVariable = "VMM_PRELOAD_ON_ERROR";
constexpr const char* kConfigFileVariable = "VMM_PLUGINS_CONFIG";

/// The process that a configuration is for, as far as rules of the file ask.
struct Subject {
  std::string program;  ///< the program's file, absolute
  std::string vm_name;  ///< as the VMM's command line has it; empty = it has none
};

/// A setting that is one word, wherever it comes from.
struct Setting {
  std::string_view key;  ///< in the file, and with "--" vmm-run's option
  const char* variable;
  const char* Environment::*value;
  /// Sets it in the Config; "" is the default. Error: what is allowed, without name and value.
  tl::expected<void, std::string> (*set)(Config& config, std::string_view value);
};
extern const std::array<Setting, 3> kSettings;

/// This process's; nothing under AT_SECURE (setuid), as the loader does with LD_PRELOAD.
Environment read_environment() noexcept;

/// This process; allocates, and reads /proc/self.
Subject this_process();

/// What variables and file say to `subject`. May throw bad_alloc.
Config read_config(const Environment& environment, const Subject& subject);

/// Folders for bare names, given the one that the preload library is in: that one, the build
/// tree's, the one of this installation, the one that the library was configured for.
std::vector<std::string> plugin_folders(std::string_view library_folder);

}  // namespace host_preload
