// SPDX-License-Identifier: MIT
//
// CPUID bits that plugins hide from a VM. Bits are cleared, never set; a leaf that is not in a
// table stays out of it. Not thread-safe: filled during vm_created, constant afterwards.
#pragma once

#include <linux/kvm.h>
#include <vmm/plugin.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace host_kit {

class HiddenCpuid {
 public:
  static constexpr std::size_t kMost = 64;

  /// 0; -ENOSPC: more than kMost registers, then nothing is changed. May throw bad_alloc.
  int32_t add(std::span<const vmm_cpuid_bits> bits);

  bool empty() const noexcept { return bits_.empty(); }

  /// Clears the bits in a table of KVM's.
  void clear_in(std::span<kvm_cpuid_entry2> table) const noexcept;

  /// Only what both hide. May throw bad_alloc.
  HiddenCpuid intersection(const HiddenCpuid& other) const;

 private:
  std::vector<vmm_cpuid_bits> bits_;  ///< a leaf, subleaf and register once each
};

}  // namespace host_kit
