// SPDX-License-Identifier: MIT
//
// What vmm-run is asked to do, and the environment that comes of it.
#pragma once

#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>
#include <vector>

namespace host_preload {

struct LaunchOptions {
  std::vector<std::string> plugins;  ///< "svm_pmu.so,key=value"; empty = those of VMM_PLUGINS
  std::string log;
  std::string reset_rule;
  std::string on_error;
  std::string library;  ///< the preload library; empty = look for it
  bool check_only = false;
  bool help = false;
  bool version = false;
  std::vector<std::string> command;  ///< the program and its arguments
};

/// Reads the arguments behind the program's own name; options end at "--" or at the first argument
/// that is none. Error: one line.
tl::expected<LaunchOptions, std::string> parse_launch(const std::vector<std::string>& arguments);

/// The usage text.
std::string_view launch_help() noexcept;

/// The value of VMM_PLUGINS for these.
std::string join_plugins(const std::vector<std::string>& plugins);

/// The value of LD_PRELOAD with the library before what `before` holds. Error: the loader splits at
/// blanks and colons, so that a path cannot hold one.
tl::expected<std::string, std::string> join_preload(const std::string& library,
                                                    std::string_view before);

}  // namespace host_preload
