// SPDX-License-Identifier: MIT
#include <fmt/format.h>
#include <vmm/plugin.h>

#include <algorithm>
#include <exception>

#include "host_kit/version.hpp"
#include "tool/command.hpp"

namespace svm_pmu::tool {
namespace {

constexpr const char* kExamples = R"(
Examples:
  What this host needs, and what the plugin does on it:
    $ svm-pmu probe
    $ svm-pmu probe --options pmu-cap-disabled=on,strict=on
  Is each VM of this host protected? The exit status says so to monitoring.
    $ svm-pmu status
    $ svm-pmu status --format=prometheus > /var/lib/node_exporter/svm_pmu.prom
  What a guest's log says of its PMU:
    $ dmesg | svm-pmu explain
    $ svm-pmu explain "Uhhuh. NMI received for unknown reason 30 on CPU 0."
)";

void print_commands() {
  fmt::print(
      "Usage: svm-pmu COMMAND [OPTION]...\n"
      "Looks after KVM's AMD vPMU on this host.\n\nCommands:\n");
  for (const Command& command : commands()) fmt::print("  {:<10}{}\n", command.name, command.help);
  fmt::print(
      "\n'svm-pmu COMMAND --help' lists the options of a command, 'svm-pmu --help-all' those of\n"
      "all commands; 'svm-pmu --version' says which version this is.\n");
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
  for (const Command& command : commands()) {
    fmt::print("\n");
    command.run({"--help"});
  }
  fmt::print("\nLines that explain knows:\n");
  explain_command({"--list"});
  fmt::print("{}", kExamples);
  return kExitGood;
}

int print_version() {
  fmt::print("{}\n", host_kit::version_line("svm-pmu"));
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
  const auto command =
      std::ranges::find_if(commands(), [&](const Command& c) { return c.name == words.front(); });
  if (command == commands().end()) {
    print_error(fmt::format("no command '{}'; 'svm-pmu --help' lists them", words.front()));
    return kExitUsage;
  }
  return command->run({words.begin() + 1, words.end()});
}

}  // namespace
}  // namespace svm_pmu::tool

/// This program calls the hooks itself: a preloaded host stays inert.
extern "C" VMM_PLUGIN_EXPORT const int vmm_plugin_host_v1;
extern "C" const int vmm_plugin_host_v1 = 1;

int main(int argc, char** argv) try {
  return svm_pmu::tool::dispatch({argv + std::min(argc, 1), argv + argc});
} catch (const std::exception& error) {
  svm_pmu::tool::print_error(error.what());
  return svm_pmu::tool::kExitWrong;
}
