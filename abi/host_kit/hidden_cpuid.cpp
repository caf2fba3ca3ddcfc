// SPDX-License-Identifier: MIT
#include "host_kit/hidden_cpuid.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "host_kit/cpuid_table.hpp"

namespace host_kit {
namespace {

bool same_register(const vmm_cpuid_bits& a, const vmm_cpuid_bits& b) {
  return a.leaf == b.leaf && a.subleaf == b.subleaf && a.reg == b.reg;
}

uint32_t& register_of(kvm_cpuid_entry2& entry, uint32_t reg) {
  switch (reg) {
    case VMM_CPUID_EAX:
      return entry.eax;
    case VMM_CPUID_EBX:
      return entry.ebx;
    case VMM_CPUID_ECX:
      return entry.ecx;
    default:
      return entry.edx;
  }
}

}  // namespace

int32_t HiddenCpuid::add(std::span<const vmm_cpuid_bits> bits) {
  std::vector<vmm_cpuid_bits> all = bits_;
  for (const vmm_cpuid_bits& one : bits) {
    const auto known = std::find_if(all.begin(), all.end(),
                                    [&](const auto& each) { return same_register(each, one); });
    if (known != all.end())
      known->mask |= one.mask;
    else
      all.push_back(one);
  }
  if (all.size() > kMost) return -ENOSPC;
  bits_ = std::move(all);
  return 0;
}

void HiddenCpuid::clear_in(std::span<kvm_cpuid_entry2> table) const noexcept {
  for (kvm_cpuid_entry2& entry : table)
    for (const vmm_cpuid_bits& bits : bits_)
      if (is_leaf(entry, bits.leaf, bits.subleaf)) register_of(entry, bits.reg) &= ~bits.mask;
}

HiddenCpuid HiddenCpuid::intersection(const HiddenCpuid& other) const {
  HiddenCpuid both;
  for (const vmm_cpuid_bits& bits : bits_)
    for (const vmm_cpuid_bits& theirs : other.bits_)
      if (same_register(bits, theirs) && (bits.mask & theirs.mask) != 0)
        both.bits_.push_back({bits.leaf, bits.subleaf, bits.reg, bits.mask & theirs.mask});
  return both;
}

}  // namespace host_kit
