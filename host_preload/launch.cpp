// SPDX-License-Identifier: MIT
#include "host_preload/launch.hpp"

#include <algorithm>
#include <array>

namespace host_preload {
namespace {

/// Options that take a value: "--name VALUE" or "--name=VALUE".
struct ValueOption {
  std::string_view name;
  std::string LaunchOptions::*field;
};
constexpr std::array<ValueOption, 4> kValueOptions{{
    {"--log", &LaunchOptions::log},
    {"--reset-rule", &LaunchOptions::reset_rule},
    {"--on-error", &LaunchOptions::on_error},
    {"--library", &LaunchOptions::library},
}};
constexpr std::string_view kPlugin = "--plugin";

struct FlagOption {
  std::string_view name;
  bool LaunchOptions::*field;
};
constexpr std::array<FlagOption, 4> kFlagOptions{{
    {"--check", &LaunchOptions::check_only},
    {"--help", &LaunchOptions::help},
    {"-h", &LaunchOptions::help},
    {"--version", &LaunchOptions::version},
}};

/// Stores the value of an option; false: there is no such option.
bool store_value(LaunchOptions& options, std::string_view name, const std::string& value) {
  if (name == kPlugin) {
    options.plugins.push_back(value);
    return true;
  }
  const auto found = std::find_if(kValueOptions.begin(), kValueOptions.end(),
                                  [&](const ValueOption& option) { return option.name == name; });
  if (found == kValueOptions.end()) return false;
  options.*(found->field) = value;
  return true;
}

bool store_flag(LaunchOptions& options, std::string_view name) {
  const auto found = std::find_if(kFlagOptions.begin(), kFlagOptions.end(),
                                  [&](const FlagOption& option) { return option.name == name; });
  if (found == kFlagOptions.end()) return false;
  options.*(found->field) = true;
  return true;
}

}  // namespace

std::string_view launch_help() noexcept {
  return "Usage: vmm-run [OPTION]... [--] PROGRAM [ARGUMENT]...\n"
         "Runs a virtual machine monitor with plugins that it knows nothing of.\n"
         "\n"
         "Options:\n"
         "  --plugin FILE[,KEY=VALUE]...   a plugin and its options; may be repeated\n"
         "  --log FILE|stderr              one line an event (default: errors and warnings only,\n"
         "                                 to standard error)\n"
         "  --reset-rule strong|broad      broad: also resets of a directly booted kernel\n"
         "  --on-error fail|continue       a plugin that cannot be loaded: no VM (fail), or a VM\n"
         "                                 without it\n"
         "  --library FILE                 the preload library, if it is not where it was\n"
         "                                 installed\n"
         "  --check                        only say whether it would work\n"
         "  --help                         this text\n"
         "  --version                      which version this is\n"
         "\n"
         "Exit status: that of PROGRAM; 125 it cannot work; 126 PROGRAM cannot be run; 127 not\n"
         "found.\n"
         "\n"
         "Environment:\n"
         "  VMM_PLUGINS              what --plugin says, separated by ';'\n"
         "  VMM_PRELOAD_LOG          what --log says\n"
         "  VMM_PRELOAD_RESET_RULE   what --reset-rule says\n"
         "  VMM_PRELOAD_ON_ERROR     what --on-error says\n"
         "\n"
         "Options go before the environment, and become it for PROGRAM; LD_PRELOAD gets the "
         "preload\n"
         "library.\n"
         "\n"
         "Examples:\n"
         "    $ vmm-run --plugin svm_pmu.so,pmu-cap-disabled=on -- qemu-system-x86_64 -accel kvm\n";
}

tl::expected<LaunchOptions, std::string> parse_launch(const std::vector<std::string>& arguments) {
  LaunchOptions options;
  std::size_t at = 0;
  for (; at < arguments.size(); ++at) {
    const std::string& argument = arguments[at];
    if (argument == "--") {
      ++at;
      break;
    }
    if (argument.empty() || argument[0] != '-') break;
    if (store_flag(options, argument)) continue;
    const std::size_t equals = argument.find('=');
    const std::string name = argument.substr(0, equals);
    const bool inline_value = equals != std::string::npos;
    if (!inline_value && at + 1 == arguments.size())
      return tl::unexpected(name + ": unknown, or its value is missing; see --help");
    const std::string& value = inline_value ? argument.substr(equals + 1) : arguments[at + 1];
    if (!store_value(options, name, value))
      return tl::unexpected(name + ": unknown option; see --help");
    if (!inline_value) ++at;
  }
  options.command.assign(arguments.begin() + static_cast<std::ptrdiff_t>(at), arguments.end());
  if (options.command.empty() && !options.help && !options.version)
    return tl::unexpected(std::string("no program was named; see --help"));
  return options;
}

std::string join_plugins(const std::vector<std::string>& plugins) {
  std::string joined;
  for (const std::string& plugin : plugins) {
    if (!joined.empty()) joined += ';';
    for (const char c : plugin) joined += c == ';' ? std::string(";;") : std::string(1, c);
  }
  return joined;
}

tl::expected<std::string, std::string> join_preload(const std::string& library,
                                                    std::string_view before) {
  if (library.find_first_of(" :") != std::string::npos)
    return tl::unexpected("the loader cannot preload '" + library +
                          "': its path has a blank or a colon");
  return before.empty() ? library : library + ":" + std::string(before);
}

}  // namespace host_preload
