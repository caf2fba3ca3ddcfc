// SPDX-License-Identifier: MIT
#include "tool/perf_counters.hpp"

#include <fmt/format.h>
#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "tool/file.hpp"

namespace svm_pmu::tool {
namespace {

/// User space only, as everybody may count it up to perf_event_paranoid 2; pinned, as KVM's are.
int open_pinned_event() {
  perf_event_attr attributes{};
  attributes.type = PERF_TYPE_HARDWARE;
  attributes.size = sizeof attributes;
  attributes.config = PERF_COUNT_HW_CPU_CYCLES;
  attributes.read_format = PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING;
  attributes.pinned = 1;
  attributes.exclude_kernel = 1;
  attributes.exclude_hv = 1;
  const long fd =
      syscall(SYS_perf_event_open, &attributes, 0, -1, -1, static_cast<long>(PERF_FLAG_FD_CLOEXEC));
  return static_cast<int>(fd);
}

/// A pinned event that got no counter is in an error state: reading it gives nothing, end of file
/// (perf_event_open(2), "pinned").
bool ran(int fd) {
  struct {
    uint64_t value, enabled, running;
  } counted{};
  return ::read(fd, &counted, sizeof counted) == static_cast<ssize_t>(sizeof counted) &&
         counted.running > 0;
}

void spend_time() {
  volatile uint32_t sum = 0;
  for (uint32_t i = 0; i < 1'000'000; ++i) sum = sum + i;
}

}  // namespace

PerfCounters ask_perf_counters(uint32_t counters) {
  PerfCounters answer;
  answer.asked = counters;
  answer.nmi_watchdog = first_word("/proc/sys/kernel/nmi_watchdog", "?");
  answer.paranoid = first_word("/proc/sys/kernel/perf_event_paranoid", "?");
  std::vector<UniqueFd> events;
  for (uint32_t i = 0; i < counters; ++i) {
    events.emplace_back(open_pinned_event());
    if (events.back().get() >= 0) continue;
    answer.result = -errno;
    return answer;
  }
  spend_time();
  for (const UniqueFd& event : events) answer.free += ran(event.get()) ? 1 : 0;
  return answer;
}

std::string describe(const PerfCounters& c) {
  const std::string watchdog =
      c.nmi_watchdog == "1"   ? "The host's NMI watchdog is on (sysctl kernel.nmi_watchdog=1) and "
                                "holds one counter of each CPU."
      : c.nmi_watchdog == "0" ? "The host's NMI watchdog is off (sysctl kernel.nmi_watchdog=0)."
                              : "The host has no NMI watchdog (no sysctl kernel.nmi_watchdog).";
  if (c.result == -EACCES || c.result == -EPERM)
    return fmt::format(
        "Whether counters are free was not asked: perf_event_open is not allowed to this user "
        "(sysctl kernel.perf_event_paranoid={}); run this as root. {}",
        c.paranoid, watchdog);
  if (c.result < 0)
    return fmt::format(
        "Whether counters are free is unknown: perf_event_open of a hardware event failed: {}. {}",
        std::strerror(-c.result), watchdog);
  if (c.free == c.asked)
    return fmt::format("All {} counters of this CPU are free for guests. {}", c.asked, watchdog);
  return fmt::format(
      "{} of {} counters of this CPU are free: a guest that uses more reads 0 from those which the "
      "host's own perf events hold. {}",
      c.free, c.asked, watchdog);
}

}  // namespace svm_pmu::tool
