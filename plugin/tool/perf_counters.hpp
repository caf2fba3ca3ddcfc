// SPDX-License-Identifier: MIT
//
// Whether the host has counters left for guests. KVM counts a guest's event by a pinned perf event
// of the vCPU's thread; where others hold the hardware counters (the NMI watchdog, monitoring
// agents) the guest's event does not run, and its counter stays 0.
#pragma once

#include <cstdint>
#include <string>

namespace svm_pmu::tool {

struct PerfCounters {
  uint32_t asked = 0;        ///< pinned events that were opened at once; 0 = nobody asked
  uint32_t free = 0;         ///< those of them that ran
  int32_t result = 0;        ///< -errno of perf_event_open where it refused; then free says nothing
  std::string nmi_watchdog;  ///< /proc/sys/kernel/nmi_watchdog: "0", "1"; "?" = not there
  std::string paranoid;      ///< /proc/sys/kernel/perf_event_paranoid; "?" = not there
};

/// Opens `counters` pinned events of this thread, lets them run for a moment of this program's own
/// time, and closes them.
PerfCounters ask_perf_counters(uint32_t counters);

/// In a sentence or two.
std::string describe(const PerfCounters& counters);

}  // namespace svm_pmu::tool
