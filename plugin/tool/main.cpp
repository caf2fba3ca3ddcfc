// SPDX-License-Identifier: MIT
#include <fmt/format.h>
#include <vmm/plugin.h>

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

constexpr Command kCommands[] = {
    {"probe", "what this host's KVM has, which bugs, and what the plugin does here", probe_command},
    {"explain", "what a line of a guest's or a host's log means, and whether it is one of the bugs",
     explain_command},
    {"status", "which VMs of this host are protected, and which are not", status_command},
};

void print_known_lines() {
  fmt::print("\nLines that explain knows:\n");
  explain_command({"--list"});
}

constexpr Program kProgram{
    "svm-pmu", "Checks KVM's AMD vPMU on this host, and explains lines of logs about it.",
    kCommands, kExamples, print_known_lines};

}  // namespace
}  // namespace svm_pmu::tool

/// This program calls the hooks itself: a preloaded host stays inert.
extern "C" VMM_PLUGIN_EXPORT const int vmm_plugin_host_v1;
extern "C" const int vmm_plugin_host_v1 = 1;

int main(int argc, char** argv) {
  return svm_pmu::tool::run_program(svm_pmu::tool::kProgram, argc, argv);
}
