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
         "Runs an unmodified virtual machine monitor (VMM) with plugins.\n"
         "\n"
         "Options:\n"
         "  --plugin FILE[,KEY=VALUE]...   a plugin and its options; may be repeated\n"
         "  --log FILE|stderr|journal      write one line per event there (default: one line per\n"
         "                                 VM, errors and warnings, to standard error)\n"
         "  --reset-rule strong|broad      broad: also detect resets of a directly booted\n"
         "                                 kernel\n"
         "  --on-error fail|continue       if a plugin cannot be loaded: start no VM (fail), or a\n"
         "                                 VM without it\n"
         "  --library FILE                 the preload library, if it is not where it was\n"
         "                                 installed\n"
         "  --require-kvm                  fail if /dev/kvm does not open; otherwise only warn,\n"
         "                                 because QEMU may emulate\n"
         "  --check                        only check whether it would work, and ask the plugins\n"
         "                                 about their options\n"
         "  -h, --help                     this text\n"
         "  -V, --version                  print the version\n"
         "\n"
         "Without --plugin and VMM_PLUGINS, plugins and settings come from /etc/vmm-plugins.conf\n"
         "and /etc/vmm-plugins.conf.d/*.conf.\n"
         "\n"
         "Exit status: that of PROGRAM; 125 vmm-run cannot work; 126 PROGRAM cannot be run;\n"
         "127 PROGRAM was not found.\n"
         "\n"
         "Environment:\n"
         "  VMM_PLUGINS              as --plugin; several are separated by ';'\n"
         "  VMM_PRELOAD_LOG          as --log\n"
         "  VMM_PRELOAD_RESET_RULE   as --reset-rule\n"
         "  VMM_PRELOAD_ON_ERROR     as --on-error\n"
         "  VMM_PLUGINS_CONFIG       the file to read instead of /etc/vmm-plugins.conf\n"
         "\n"
         "Options take precedence over these variables. vmm-run sets them, and LD_PRELOAD, for\n"
         "PROGRAM.\n"
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
         ", which vmm-run does not reach; use /etc/vmm-plugins.conf (README, \"libvirt\")";
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
