// SPDX-License-Identifier: MIT
//
// System call filters, as VMMs put them on their threads. In this process a call that a filter does
// not let through ends the child with a note: which call, in which function of the plugin.
//
// The filters of S2 stand on a thread of their own, so that a first allocation there needs a new
// arena and with it a system call; glibc's main arena may have room left and would stay silent.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "check/plugin/findings.hpp"

namespace host_stub::validate {

/// A system call, or with `argument` >= 0 only those where it has this value (low 32 bits).
struct SystemCall {
  long number;
  int argument = -1;
  uint32_t value = 0;
};

struct CallFilter {
  const char* name;
  bool lists_allowed;  ///< true: all others are trapped; false: the listed ones are
  std::span<const SystemCall> calls;
};

/// Nothing but the end of the process: level S2.
extern const CallFilter kNoCalls;
/// No open, exec, clone or socket: level S1.
extern const CallFilter kNoNewResources;
/// What real VMMs let their vCPU threads do.
extern const CallFilter kFirecrackerVcpu;
extern const CallFilter kCloudHypervisorVcpu;

/// Whether the filter lets ioctl(any fd, request) through.
bool allows_ioctl(const CallFilter& filter, uint32_t request);

/// Puts the filter on the calling thread for good. A trapped call is noted as a failure of `rule`
/// and ends the process. False: the kernel has no such filters.
bool enter_filter(const CallFilter& filter, Findings& findings, unsigned rule);

/// Runs `body` on a new thread behind the filter and comes back when it is done; the thread stays.
/// False: no thread, or no filter; then the body did not run.
bool on_filtered_thread(const CallFilter& filter, Findings& findings, unsigned rule,
                        const std::function<void()>& body);

}  // namespace host_stub::validate
