// SPDX-License-Identifier: MIT
//
// Has this vCPU been reset? Answered from the stream of its ioctls alone, by what the architecture
// says of RESET, for any VMM. One detector a vCPU; pure memory, no system calls.
//
// A reset is: the vCPU has run, then its segment registers are put to the reset vector, its RIP to
// fff0 and its multiprocessing state is written, in any order, and it has not run in between.
// "Has run" keeps creation, hot-plug, incoming migration and the restore of a snapshot into a new
// VM apart from a reset; KVM_SET_MP_STATE keeps run-time writes of registers and INIT apart from
// it.
//
// Threads: on() and quiet() may be called from any; of two threads that complete a reset together
// exactly one is told.
#pragma once

#include <atomic>
#include <cstdint>

namespace host_preload {

/// What happened on a vCPU. Only ioctls that succeeded count; run = KVM_RUN is about to be called.
enum class VcpuEvent : uint8_t {
  run,
  sregs_reset,         ///< KVM_SET_SREGS or SREGS2, at the reset vector
  sregs_other,         ///< the same, elsewhere
  regs_reset,          ///< KVM_SET_REGS with RIP = fff0
  regs_other,          ///< the same, elsewhere
  mp_state,            ///< KVM_SET_MP_STATE, any value
  pmu_zeroed,          ///< KVM_SET_MSRS that zeroed PMU registers, GLOBAL_CTL not among them
  pmu_control_zeroed,  ///< the same, GLOBAL_CTL among them
  pmu_values,          ///< KVM_SET_MSRS that gave a PMU register a value other than 0
};
constexpr int kVcpuEvents = 9;

/// What the host is to do now, on this thread, before it returns to the VMM (for run: before it
/// calls KVM_RUN).
enum class ResetAction : uint8_t {
  none,
  reset_strong,  ///< a reset by the rule above
  reset_broad,   ///< by the broad rule: all three written in one window, wherever they point
  /// The VMM loaded the reset state and its own KVM_SET_MSRS wrote GLOBAL_CTL = 0, where RESET sets
  /// the enable bit of each counter (KVM: de120e1d692d, Linux 6.9): a guest that knows only version
  /// 1 of the PMU would count nothing. No counter or selector of the VMM's has a value to lose.
  repair,
  /// A reset by the strong rule, but the VMM gave PMU registers values in the same window, so this
  /// is a restore of its own: its values win.
  yield,
};

enum class ResetRule : uint8_t {
  strong,
  /// Also what looks like a reset or an in-place restore at another address than the reset vector
  /// (direct kernel boot), if the VMM wrote no PMU register itself.
  broad,
};

class ResetDetector {
 public:
  /// Forgets all: a vCPU that was just created.
  void clear() noexcept { state_.store(0, std::memory_order_relaxed); }

  ResetAction on(VcpuEvent event, ResetRule rule) noexcept;

  /// True: on(run) would change nothing, it need not be called. All that KVM_RUN pays.
  bool quiet() const noexcept { return state_.load(std::memory_order_relaxed) == kRan; }

 private:
  static constexpr uint32_t kRan = 1;  // bits of state_; the others are in the .cpp

  std::atomic<uint32_t> state_{0};

  struct Bits;
};

/// "strong", "broad", "repair", "yield" or "none", for the log.
const char* reset_action_name(ResetAction action) noexcept;

}  // namespace host_preload
