// SPDX-License-Identifier: MIT
//
// Has this vCPU been reset? Answered from the stream of its ioctls alone, by what the architecture
// says of RESET, for any VMM. One detector a vCPU; pure memory, no system calls.
//
// A VMM loads a vCPU's state: segment registers, RIP and multiprocessing state, in any order. If
// they are those of the reset vector (CS F000:, RIP fff0), the load is the reset state. What the
// load was for shows at the KVM_RUN that follows, and is decided there, by one table:
//
//   ran before | last load of the window | PMU registers written in it | what KVM_RUN finds
//   -----------+-------------------------+-----------------------------+-----------------------
//   yes        | reset state             | no, or zeroed               | a reset
//   yes        | reset state             | values                      | left to the VMM
//   no         | reset state             | GLOBAL_CTL zeroed           | GLOBAL_CTL to be repaired
//   yes        | other state             | no                          | a reset, if rule is broad
//   any other                                                          | nothing
//
// A window is the time between two KVM_RUN. "Ran before" keeps creation, hot-plug, incoming
// migration and the restore of a snapshot into a new VM apart from a reset; the load's third part,
// KVM_SET_MP_STATE, keeps run-time writes of registers, INIT and SIPI apart from it; and the last
// load keeps apart what resets the machine first and then loads a snapshot into it.
//
// Before the first KVM_RUN, KVM_SET_CPUID2 is a moment of its own: the vCPU has just been created.
//
// Threads: on() and quiet() may be called from any; of two threads that find a reset together
// exactly one is told.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>

namespace host_preload {

/// What happened on a vCPU. Only ioctls that succeeded count; run = KVM_RUN is about to be called.
enum class VcpuEvent : uint8_t {
  run,
  cpuid,               ///< KVM_SET_CPUID2
  sregs_reset,         ///< KVM_SET_SREGS or SREGS2, at the reset vector
  sregs_other,         ///< the same, elsewhere
  regs_reset,          ///< KVM_SET_REGS with RIP = fff0
  regs_other,          ///< the same, elsewhere
  mp_state,            ///< KVM_SET_MP_STATE, any value
  pmu_zeroed,          ///< KVM_SET_MSRS that zeroed PMU registers, GLOBAL_CTL not among them
  pmu_control_zeroed,  ///< the same, GLOBAL_CTL among them
  pmu_values,          ///< KVM_SET_MSRS that gave a PMU register a value other than 0
};

/// What the host is to do now, on this thread, before it returns to the VMM (for run: before it
/// calls KVM_RUN).
enum class ResetAction : uint8_t {
  none,
  /// The vCPU is new and got its CPUID: KVM put its PMU into a reset state, which some kernels get
  /// wrong (GLOBAL_CTL stays 0 in 6.5 to 6.8, mended by de120e1d692d). At KVM_SET_CPUID2 rather
  /// than KVM_RUN: the thread that configures a vCPU writes MSRs in any case, while the one that
  /// runs it may be forbidden to (Cloud Hypervisor's filter); and nothing was restored yet that
  /// could be lost.
  reset_created,
  reset_strong,  ///< a reset by the rule above
  reset_broad,   ///< by the broad rule: a load of another state
  /// The VMM loaded the reset state and its own KVM_SET_MSRS wrote GLOBAL_CTL = 0, where RESET sets
  /// the enable bit of each counter: a guest that knows only version 1 of the PMU would count
  /// nothing. No counter or selector of the VMM's has a value to lose.
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

/// All that is remembered of a vCPU. Zero: a new one.
struct ResetState {
  enum class Part : uint8_t { unwritten, at_vector, elsewhere };
  enum class Load : uint8_t { none, reset_state, other_state };
  enum class PmuWrites : uint8_t { none, zeroed, control_zeroed, values };  // the later one wins

  bool ran = false;
  // the load under way
  Part segments = Part::unwritten;
  Part rip = Part::unwritten;
  bool mp_state = false;
  // of this window
  Load load = Load::none;  ///< the last that was complete
  PmuWrites pmu = PmuWrites::none;
  uint16_t unused = 0;
};

class ResetDetector {
 public:
  /// Forgets all: a vCPU that was just created.
  void clear() noexcept { state_.store(0, std::memory_order_relaxed); }

  ResetAction on(VcpuEvent event, ResetRule rule) noexcept;

  /// True: on(run) would change nothing, it need not be called. All that KVM_RUN pays.
  bool quiet() const noexcept {
    return state_.load(std::memory_order_relaxed) == std::bit_cast<uint64_t>(kRunning);
  }

 private:
  static constexpr ResetState kRunning{.ran = true};

  struct Verdict;
  static ResetState after(ResetState state, VcpuEvent event) noexcept;
  static ResetAction found_by_run(const ResetState& state, ResetRule rule) noexcept;

  std::atomic<uint64_t> state_{0};
};

/// "creation", "strong", "broad", "repair", "yield" or "none", for the log.
const char* reset_action_name(ResetAction action) noexcept;

}  // namespace host_preload
