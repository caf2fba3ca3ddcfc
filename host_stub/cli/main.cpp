// SPDX-License-Identifier: MIT
#include <fmt/format.h>
#include <vmm/plugin.h>

#include <algorithm>
#include <exception>

#include "cli/command.hpp"
#include "host_kit/version.hpp"

namespace host_stub {
namespace {

struct Command {
  const char* name;
  const char* help;
  int (*run)(const Arguments&);
};

constexpr Command kCommands[] = {
    {"run", "a scenario on a VM, with or without plugins, as a transcript", run_command},
    {"facts", "ask a KVM what it does with the AMD PMU; JSON lines", facts_command},
    {"probe", "svm-pmu probe, on a simulated KVM as well", probe_command},
    {"conformance-host", "judge a host of plugins by what host_conformance.so recorded of it",
     conformance_command},
    {"validate", "a plugin's file against the rules of the ABI, each check in a child process",
     validate_command},
};

constexpr const char* kExamples = R"(
Examples:
  Bug 2 on a simulated kernel, without and with the plugin:
    $ host_stub run --kvm sim:linux-6.12 --scenario boot,perf,reset,boot
    $ host_stub run --kvm sim:linux-6.12 --plugin svm_pmu.so --scenario boot,perf,reset,boot
  Bug 1: no PMU for the guest:
    $ host_stub run --plugin svm_pmu.so --options pmu-cap-disabled=true --scenario boot
  On the real KVM:
    $ host_stub run --kvm /dev/kvm --plugin svm_pmu.so --scenario boot,reset,boot
  What a host with this kernel needs:
    $ host_stub probe --kvm sim:linux-5.10
  How well a VMM of yours plays host: run it with each of the options that the first line prints
    $ host_stub conformance-host --runs record.jsonl
    $ host_stub conformance-host record.jsonl
  Does a plugin keep the rules of the ABI?
    $ host_stub validate svm_pmu.so --options pmu-cap-disabled=true
  What a KVM answers:
    $ host_stub facts --kvm sim:linux-6.1,enable_pmu=N
)";

void print_commands() {
  fmt::print(
      "Usage: host_stub COMMAND [OPTION]...\n"
      "Plays the VMM that calls a plugin's hooks.\n\nCommands:\n");
  for (const Command& command : kCommands) fmt::print("  {:<18}{}\n", command.name, command.help);
  fmt::print(
      "\n'host_stub COMMAND --help' lists the options of a command, 'host_stub --help-all' those "
      "of\n"
      "all commands; 'host_stub --version' says which version this is.\n");
}

int list_commands() {
  print_commands();
  return kExitGood;
}

int print_help() {
  print_commands();
  fmt::print("{}", kExamples);
  return kExitGood;
}

/// The whole reference; the manual page is made of it.
int print_help_of_all() {
  print_commands();
  fmt::print("\nOptions:\n");
  for (const Command& command : kCommands) {
    fmt::print("\n");
    command.run({"--help"});
  }
  fmt::print("{}", kExamples);
  return kExitGood;
}

int print_version() {
  fmt::print("{}\n", host_kit::version_line("host_stub"));
  return kExitGood;
}

/// What may stand instead of a command.
constexpr struct {
  const char* name;
  int (*run)();
} kQuestions[] = {{"--help", print_help},       {"help", print_help},
                  {"list", list_commands},      {"--help-all", print_help_of_all},
                  {"--version", print_version}, {"version", print_version}};

int dispatch(const Arguments& words) {
  if (words.empty()) {
    print_help();
    return kExitUsage;
  }
  for (const auto& question : kQuestions)
    if (words.front() == question.name) return question.run();
  const auto* command = std::find_if(std::begin(kCommands), std::end(kCommands),
                                     [&](const Command& c) { return c.name == words.front(); });
  if (command == std::end(kCommands)) {
    print_error(fmt::format("no command '{}'; 'host_stub --help' lists them", words.front()));
    return kExitUsage;
  }
  return command->run({words.begin() + 1, words.end()});
}

}  // namespace
}  // namespace host_stub

/// This program calls the hooks itself: a preloaded host stays inert.
extern "C" VMM_PLUGIN_EXPORT const int vmm_plugin_host_v1;
extern "C" const int vmm_plugin_host_v1 = 1;

int main(int argc, char** argv) try {
  return host_stub::dispatch({argv + std::min(argc, 1), argv + argc});
} catch (const std::exception& error) {
  host_stub::print_error(error.what());
  return host_stub::kExitWrong;
}
