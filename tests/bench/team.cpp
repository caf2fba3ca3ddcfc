// SPDX-License-Identifier: MIT
#include "team.hpp"

#include <sched.h>

namespace bench {

void pin_to_cpu(uint32_t number) {
  static const cpu_set_t allowed = [] {  // before the first thread was bound
    cpu_set_t set;
    CPU_ZERO(&set);
    sched_getaffinity(0, sizeof set, &set);
    return set;
  }();
  const auto count = static_cast<uint32_t>(CPU_COUNT(&allowed));
  if (count == 0) return;
  uint32_t left = number % count;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed) || left-- > 0) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
    return;
  }
}

}  // namespace bench
