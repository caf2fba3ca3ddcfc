// SPDX-License-Identifier: MIT
#include <vmm/plugin.h>

#include "cli/command.hpp"

namespace host_stub {
namespace {

constexpr svm_pmu::tool::Command kCommands[] = {
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

constexpr svm_pmu::tool::Program kProgram{"host_stub", "Plays the VMM that calls a plugin's hooks.",
                                          kCommands, kExamples};

}  // namespace
}  // namespace host_stub

/// This program calls the hooks itself: a preloaded host stays inert.
extern "C" VMM_PLUGIN_EXPORT const int vmm_plugin_host_v1;
extern "C" const int vmm_plugin_host_v1 = 1;

int main(int argc, char** argv) {
  return svm_pmu::tool::run_program(host_stub::kProgram, argc, argv);
}
