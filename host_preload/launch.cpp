// SPDX-License-Identifier: MIT
#include "host_preload/launch.hpp"

#include <getopt.h>

#include <algorithm>
#include <array>

namespace host_preload {
namespace {

struct LaunchOption {
  const char* name;
  char letter;  ///< 0 = none
  std::string LaunchOptions::*value;
  bool LaunchOptions::*flag;
};
constexpr std::array<LaunchOption, 9> kOptions{{
    {"plugin", 0, nullptr, nullptr},  // goes into a list
    {"log", 0, &LaunchOptions::log, nullptr},
    {"reset-rule", 0, &LaunchOptions::reset_rule, nullptr},
    {"on-error", 0, &LaunchOptions::on_error, nullptr},
    {"library", 0, &LaunchOptions::library, nullptr},
    {"check", 0, nullptr, &LaunchOptions::check_only},
    {"require-kvm", 0, nullptr, &LaunchOptions::require_kvm},
    {"help", 'h', nullptr, &LaunchOptions::help},
    {"version", 'V', nullptr, &LaunchOptions::version},
}};
constexpr int kFirst = 256;  // getopt_long's value of the first option; no character

bool takes_value(const LaunchOption& option) { return option.flag == nullptr; }

/// Programs that ask a daemon for a VM, and what is said of them.
struct Client {
  std::string_view name;
  std::string_view daemon;
};
constexpr std::array<Client, 9> kClients{{
    {"virsh", "libvirtd"},
    {"virt-install", "libvirtd"},
    {"virt-manager", "libvirtd"},
    {"virt-xml", "libvirtd"},
    {"systemctl", "systemd"},
    {"systemd-run", "systemd"},
    {"docker", "its daemon"},
    {"podman", "a container"},
    {"incus", "its daemon"},
}};

std::string_view file_name(std::string_view path) { return path.substr(path.rfind('/') + 1); }

/// The accelerators of a value of -machine or -accel, with ':' between them; empty = none is named.
std::string_view accelerators(std::string_view value, bool machine) {
  for (bool first = true; !value.empty(); first = false) {
    const std::string_view part = value.substr(0, value.find(','));
    value.remove_prefix(std::min(part.size() + 1, value.size()));
    if (part.starts_with("accel=")) return part.substr(6);
    if (first && !machine) return part;
  }
  return {};
}

std::string unknown_option(const std::string& argument) {
  if (argument == "-v")
    return "-v: there is no such option: --version says the version, --log stderr logs each event";
  return argument.substr(0, argument.find('=')) + ": there is no such option; see --help";
}

}  // namespace

std::string_view launch_help() noexcept {
  return "Usage: vmm-run [OPTION]... [--] PROGRAM [ARGUMENT]...\n"
         "Runs a virtual machine monitor with plugins that it knows nothing of.\n"
         "\n"
         "Options:\n"
         "  --plugin FILE[,KEY=VALUE]...   a plugin and its options; may be repeated\n"
         "  --log FILE|stderr|journal      one line per event (default: one per VM, errors and\n"
         "                                 warnings, to standard error)\n"
         "  --reset-rule strong|broad      broad: also resets of a directly booted kernel\n"
         "  --on-error fail|continue       a plugin that cannot be loaded: no VM (fail), or a VM\n"
         "                                 without it\n"
         "  --library FILE                 the preload library, if it is not where it was\n"
         "                                 installed\n"
         "  --require-kvm                  an error if /dev/kvm does not open, which otherwise is "
         "a\n"
         "                                 warning: QEMU may emulate\n"
         "  --check                        only say whether it would work; asks the plugins about\n"
         "                                 their options\n"
         "  -h, --help                     this text\n"
         "  -V, --version                  which version this is\n"
         "\n"
         "Without --plugin and VMM_PLUGINS, /etc/vmm-plugins.conf and "
         "/etc/vmm-plugins.conf.d/*.conf\n"
         "say which plugins and settings there are.\n"
         "\n"
         "Exit status: that of PROGRAM; 125 it cannot work; 126 PROGRAM cannot be run; 127 not\n"
         "found.\n"
         "\n"
         "Environment:\n"
         "  VMM_PLUGINS              what --plugin says, separated by ';'\n"
         "  VMM_PRELOAD_LOG          what --log says\n"
         "  VMM_PRELOAD_RESET_RULE   what --reset-rule says\n"
         "  VMM_PRELOAD_ON_ERROR     what --on-error says\n"
         "  VMM_PLUGINS_CONFIG       a file in place of /etc/vmm-plugins.conf\n"
         "\n"
         "Options go before the environment, and become it for PROGRAM; LD_PRELOAD gets the "
         "preload\n"
         "library.\n"
         "\n"
         "Examples:\n"
         "    $ vmm-run --plugin svm_pmu.so,pmu-cap-disabled=on -- qemu-system-x86_64 -accel kvm\n";
}

tl::expected<LaunchOptions, std::string> parse_launch(const std::vector<std::string>& arguments) {
  std::array<option, kOptions.size() + 1> table{};
  for (std::size_t i = 0; i < kOptions.size(); ++i)
    table[i] = {kOptions[i].name, takes_value(kOptions[i]) ? required_argument : no_argument,
                nullptr, kFirst + static_cast<int>(i)};
  std::vector<std::string> words{"vmm-run"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const int argc = static_cast<int>(words.size());

  LaunchOptions options;
  optind = 0;  // anew
  for (;;) {
    const std::string& at =
        words[static_cast<std::size_t>(std::min(std::max(optind, 1), argc - 1))];
    // NOLINTNEXTLINE(concurrency-mt-unsafe): see launch.hpp
    int found = getopt_long(argc, argv.data(), "+:hV", table.data(), nullptr);
    if (found < 0) break;
    if (found == '?') return tl::unexpected(unknown_option(at));
    if (found == ':') return tl::unexpected(at + ": its value is missing; see --help");
    for (std::size_t i = 0; i < kOptions.size(); ++i)
      if (found == kOptions[i].letter) found = kFirst + static_cast<int>(i);
    const LaunchOption& chosen = kOptions[static_cast<std::size_t>(found - kFirst)];
    if (!takes_value(chosen)) {
      options.*chosen.flag = true;
      continue;
    }
    if (*optarg == '\0')
      return tl::unexpected(std::string("--") + chosen.name + ": its value is empty; see --help");
    if (chosen.value != nullptr)
      options.*chosen.value = optarg;
    else
      options.plugins.emplace_back(optarg);
  }
  options.command.assign(words.begin() + optind, words.end());
  if (options.command.empty() && !options.help && !options.version)
    return tl::unexpected(std::string("no program was named; see --help"));
  return options;
}

std::string client_advice(const std::vector<std::string>& command) {
  const std::string_view name = file_name(command.front());
  const auto client = std::find_if(kClients.begin(), kClients.end(),
                                   [&](const Client& each) { return each.name == name; });
  if (client == kClients.end()) return {};
  return std::string(name) + " is a client: the VM is started by " + std::string(client->daemon) +
         ", which this does not reach; /etc/vmm-plugins.conf and README's section on libvirt do";
}

std::string accelerator_advice(const std::vector<std::string>& command) {
  if (!file_name(command.front()).starts_with("qemu-system-")) return {};
  std::string named;
  for (std::size_t i = 1; i < command.size(); ++i) {
    std::string_view argument = command[i];
    if (argument.starts_with("--")) argument.remove_prefix(1);
    if (argument == "-enable-kvm") return {};
    const bool machine = argument == "-machine" || argument == "-M";
    if ((!machine && argument != "-accel") || i + 1 == command.size()) continue;
    const std::string_view list = accelerators(command[++i], machine);
    if ((":" + std::string(list) + ":").find(":kvm:") != std::string::npos) return {};
    if (!list.empty()) named += (named.empty() ? "" : ", ") + std::string(list);
  }
  if (named.empty()) return {};
  return "plugins are called for VMs of KVM, and this one has the accelerator " + named +
         ": use KVM (-accel kvm)";
}

std::string lost_options_advice(const LaunchOptions& options) {
  const std::string& program = options.command.front();
  const std::size_t equals = program.find('=');
  if (options.plugins.empty() || equals == std::string::npos || program.find('/') < equals)
    return {};
  return "a plugin's options go after a comma: --plugin " + options.plugins.back() + "," + program;
}

std::string join_plugins(const std::vector<std::string>& plugins) {
  std::string joined;
  for (const std::string& plugin : plugins) {
    if (!joined.empty()) joined += ';';
    for (const char c : plugin) joined += c == ';' ? std::string(";;") : std::string(1, c);
  }
  return joined;
}

std::string join_plugins(const std::vector<host_kit::PluginSpec>& plugins) {
  std::vector<std::string> texts;
  texts.reserve(plugins.size());
  for (const host_kit::PluginSpec& plugin : plugins)
    texts.push_back(plugin.file + (plugin.options.empty() ? "" : "," + plugin.options));
  return join_plugins(texts);
}

tl::expected<std::string, std::string> join_preload(const std::string& library,
                                                    std::string_view before) {
  if (library.find_first_of(" :") != std::string::npos)
    return tl::unexpected("the loader cannot preload '" + library +
                          "': its path has a blank or a colon");
  return before.empty() ? library : library + ":" + std::string(before);
}

}  // namespace host_preload
