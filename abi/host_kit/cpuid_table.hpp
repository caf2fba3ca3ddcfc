// SPDX-License-Identifier: MIT
//
// What CPUID says to a guest: the table of its last KVM_SET_CPUID2, kept to answer plugins. Memory
// for the longest table is taken when the vCPU is made, none later.
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <span>
#include <vector>

namespace host_kit {

/// Whether an entry of KVM's is that of a leaf: its index counts where the leaf has subleaves.
inline bool is_leaf(const kvm_cpuid_entry2& entry, uint32_t leaf, uint32_t subleaf) noexcept {
  const bool by_subleaf = (entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0;
  return entry.function == leaf && (!by_subleaf || entry.index == subleaf);
}

class CpuidTable {
 public:
  /// Longest table that KVM takes (KVM_MAX_CPUID_ENTRIES). May throw bad_alloc.
  static constexpr std::size_t kMaxEntries = 256;
  CpuidTable() { entries_.reserve(kMaxEntries); }

  void clear() noexcept { entries_.clear(); }
  void assign(std::span<const kvm_cpuid_entry2> entries) noexcept;

  bool known() const noexcept { return !entries_.empty(); }

  /// eax, ebx, ecx, edx of a leaf; all 0 if the guest does not have it.
  void lookup(uint32_t leaf, uint32_t subleaf, std::span<uint32_t, 4> registers) const noexcept;

 private:
  std::vector<kvm_cpuid_entry2> entries_;
};

}  // namespace host_kit
