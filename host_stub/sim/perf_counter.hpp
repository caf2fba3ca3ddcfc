// SPDX-License-Identifier: MIT
//
// One core counter of a vCPU: its selector, its value, and what became of the perf event that KVM
// keeps for it on the host. How the event lives (KVM: arch/x86/kvm/pmu.c, reprogram_counter and
// kvm_pmu_cleanup):
//   - a selector with EN makes it, when the counter is reprogrammed;
//   - clearing EN (or the counter's bit in GLOBAL_CTL) pauses it: it stays allocated;
//   - it is released on the second sched-in after the last MSR access to the counter by
//   KVM_SET_MSRS
//     or WRMSR, and never while EN is set. So a selector that a reset leaves behind lives on.
// With the mediated vPMU there is no event: the selector is in the hardware while the guest runs.
#pragma once

#include <cstdint>

namespace host_stub {

class PerfCounter {
 public:
  uint64_t selector() const { return selector_; }
  uint64_t counter() const { return counter_; }
  bool has_event() const { return has_event_; }
  bool counting() const { return counting_; }

  void write_counter(uint64_t value);
  void write_selector(uint64_t value);

  /// Something that decides whether it counts has changed.
  void request_reprogram() { pending_ = true; }
  bool reprogram_pending() const { return pending_; }

  /// What counts for it, once it is enabled.
  enum class Backing : uint8_t {
    event,     ///< a perf event on a counter of the host CPU
    starved,   ///< a perf event without one: the host's own events hold them all
    hardware,  ///< mediated vPMU: the counter itself, no event is made
  };

  /// Brings the event in line with the selector. `enabled`: the counter's GLOBAL_CTL bit, true
  /// where there is no GLOBAL_CTL.
  void reprogram(bool enabled, Backing backing);

  /// KVM's cleanup at a sched-in of the vCPU.
  void release_if_idle();

  /// Guest cycles until it overflows; UINT64_MAX: it does not count.
  uint64_t cycles_to_overflow() const;

  /// Passes guest cycles, at most cycles_to_overflow(). True: it overflowed at the last of them.
  /// Every event counts one a cycle, whatever it is.
  bool advance(uint64_t cycles);

 private:
  uint64_t selector_ = 0;
  uint64_t counter_ = 0;
  bool pending_ = false;
  bool has_event_ = false;
  bool counting_ = false;
  bool touched_ = false;  ///< accessed since the last sched-in
};

}  // namespace host_stub
