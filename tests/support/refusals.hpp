// SPDX-License-Identifier: MIT
//
// Which registers has KVM sworn not to have? For oracles of a reset: a plugin cannot tell a
// register that is refused both ways, again and again, from one that is not there. Fed with every
// entry of every MSR ioctl that the plugin makes.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <span>

#include "vmm/kvm_uapi.h"

/// Of one VM.
class Refusals {
 public:
  /// A KVM_SET_MSRS (with the values asked for) or a KVM_GET_MSRS (with those that it gave), and
  /// its result; entries after the refused one were not looked at. A result of more than there are
  /// entries, or below 0, says nothing.
  void saw(bool write, std::span<const kvm_msr_entry> entries, int32_t result) {
    if (result < 0 || static_cast<std::size_t>(result) > entries.size()) return;
    const auto taken = static_cast<std::size_t>(result);
    for (std::size_t i = 0; i < entries.size() && i <= taken; ++i)
      saw(entries[i].index, write, entries[i].data, i < taken);
  }

  /// A reset ends: what was refused five times and never taken is sworn absent for the VM's life.
  /// So is what refused three writes and took none, and read 0 both times, as KVM answers for a
  /// register that the guest's CPUID does not have. So is GLOBAL_CTL where three writes of
  /// something else than 0 were refused and none was taken.
  void end_of_reset() {
    for (const auto& [msr, accesses] : of_this_reset_) {
      const bool both_ways = accesses.taken == 0 && accesses.refused >= 5;
      const bool reads_0 = accesses.reads_of_0 >= 2 && accesses.taken == accesses.reads_of_0 &&
                           accesses.refused_writes >= 3;
      const bool zero_alone =
          msr == kGlobalCtl && accesses.taken_bits == 0 && accesses.refused_bits >= 3;
      if (both_ways || reads_0 || zero_alone) sworn_.insert(msr);
    }
    of_this_reset_.clear();
  }

  const std::set<uint32_t>& sworn() const { return sworn_; }

 private:
  static constexpr uint32_t kGlobalCtl = 0xc0000301;  // MSRC000_0301 PerfCntrGlobalCtl
  struct Accesses {
    int refused = 0, taken = 0;
    int refused_writes = 0, reads_of_0 = 0;
    int refused_bits = 0, taken_bits = 0;  // writes of something else than 0
  };

  void saw(uint32_t msr, bool write, uint64_t value, bool taken) {
    Accesses& accesses = of_this_reset_[msr];
    ++(taken ? accesses.taken : accesses.refused);
    if (write && !taken) ++accesses.refused_writes;
    if (!write && taken && value == 0) ++accesses.reads_of_0;
    if (write && value != 0) ++(taken ? accesses.taken_bits : accesses.refused_bits);
  }

  std::map<uint32_t, Accesses> of_this_reset_;
  std::set<uint32_t> sworn_;
};
