// SPDX-License-Identifier: MIT
#include "host_kit/cpuid_table.hpp"

#include <algorithm>

namespace host_kit {

void CpuidTable::assign(std::span<const kvm_cpuid_entry2> entries) noexcept {
  const auto kept = entries.first(std::min(entries.size(), kMaxEntries));
  entries_.assign(kept.begin(), kept.end());  // within the reserved capacity
}

void CpuidTable::lookup(uint32_t leaf, uint32_t subleaf,
                        std::span<uint32_t, 4> registers) const noexcept {
  std::fill(registers.begin(), registers.end(), 0u);
  const auto found =
      std::find_if(entries_.begin(), entries_.end(),
                   [&](const kvm_cpuid_entry2& entry) { return is_leaf(entry, leaf, subleaf); });
  if (found == entries_.end()) return;
  registers[0] = found->eax;
  registers[1] = found->ebx;
  registers[2] = found->ecx;
  registers[3] = found->edx;
}

}  // namespace host_kit
