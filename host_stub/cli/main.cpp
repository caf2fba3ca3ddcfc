// SPDX-License-Identifier: MIT
#include <fmt/format.h>
#include <vmm/plugin.h>

#include <algorithm>
#include <exception>

#include "cli/command.hpp"

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
    {"matrix", "all simulated hosts, guests and options of svm_pmu, judged", matrix_command},
    {"probe", "what this host's KVM has, which bugs, and what the plugin would do here",
     probe_command},
    {"conformance-host", "judge a host of plugins by what host_conformance.so recorded of it",
     conformance_command},
    {"validate", "a plugin's file against the rules of the ABI, each check in a child process",
     validate_command},
};

constexpr const char* kExamples = R"(
Examples:
  Bug 2 on a simulated kernel, without and with the plugin:
    host_stub run --kvm sim:linux-6.12 --scenario boot,perf,reset,boot
    host_stub run --kvm sim:linux-6.12 --plugin svm_pmu.so --scenario boot,perf,reset,boot
  Bug 1: no PMU for the guest:
    host_stub run --plugin svm_pmu.so --options pmu-cap-disabled=true --scenario boot
  On the real KVM, with the deny filter:
    host_stub run --kvm /dev/kvm --plugin svm_pmu.so \
                  --options pmu-cap-disabled=true,pmu-off-method=msr-filter --scenario boot,reset,boot
  What this host needs:
    host_stub probe
  Every simulated host, guest and option of Linux 6.12, judged:
    host_stub matrix --plugin svm_pmu.so --filter linux-6.12
  How well a VMM of yours plays host:
    host_stub conformance-host --runs record.jsonl     # run it with each of these options
    host_stub conformance-host record.jsonl
  Does a plugin keep the rules of the ABI?
    host_stub validate --plugin svm_pmu.so --options pmu-cap-disabled=true
  What a KVM answers:
    host_stub facts --kvm sim:linux-6.1,enable_pmu=N

'host_stub COMMAND --help' lists the options of a command.
)";

void print_help() {
  fmt::print(
      "host_stub COMMAND [OPTION]...: plays the VMM that calls a plugin's hooks\n\nCommands:\n");
  for (const Command& command : kCommands) fmt::print("  {:<18}{}\n", command.name, command.help);
  fmt::print("{}", kExamples);
}

int dispatch(const Arguments& words) {
  if (words.empty() || words.front() == "--help" || words.front() == "help") {
    print_help();
    return words.empty() ? kExitUsage : kExitGood;
  }
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
