// SPDX-License-Identifier: MIT
//
// What vmm-run is asked to do, and the environment that comes of it.
#pragma once

#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>
#include <vector>

#include "host_kit/plugin_list.hpp"

namespace host_preload {

struct LaunchOptions {
  std::vector<std::string> plugins;  ///< "svm_pmu.so,key=value"; empty = those of VMM_PLUGINS
  std::string log;
  std::string reset_rule;
  std::string on_error;
  std::string library;  ///< the preload library; empty = look for it
  bool check_only = false;
  bool require_kvm = false;
  bool help = false;
  bool version = false;
  std::vector<std::string> command;  ///< the program and its arguments
};

/// Reads the arguments after the program's own name with getopt_long(3); options end at "--" or at
/// the first argument that is none. Error: one line. One thread at a time.
tl::expected<LaunchOptions, std::string> parse_launch(const std::vector<std::string>& arguments);

/// The usage text.
std::string_view launch_help() noexcept;

/// Why this program has no VM of its own that plugins could be called for; empty: nothing is known
/// against it. `command`: the program, found or as written, and its arguments.
std::string client_advice(const std::vector<std::string>& command);

/// The accelerators that the command line of a QEMU names ("-accel", "-machine accel=") have no KVM
/// among them: what to do. Empty: they have, or none is named.
std::string accelerator_advice(const std::vector<std::string>& command);

/// What is wrong with a "program" that does not exist, if it looks like a plugin's options; or
/// empty.
std::string lost_options_advice(const LaunchOptions& options);

/// The value of VMM_PLUGINS for these, as --plugin has them or taken apart.
std::string join_plugins(const std::vector<std::string>& plugins);
std::string join_plugins(const std::vector<host_kit::PluginSpec>& plugins);

/// The value of LD_PRELOAD with the library before what `before` holds. Error: the loader splits at
/// blanks and colons, so that a path cannot hold one.
tl::expected<std::string, std::string> join_preload(const std::string& library,
                                                    std::string_view before);

}  // namespace host_preload
