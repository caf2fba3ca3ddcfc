// SPDX-License-Identifier: MIT
//
// What CPUID says to a guest: the table of its last KVM_SET_CPUID2, kept to answer plugins, or what
// KVM supports. Memory for the longest table is taken with the object, none by assign.
#pragma once

#include <linux/kvm.h>
#include <vmm/kvm_uapi.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace host_kit {

/// Whether an entry of KVM's is that of a leaf: its index counts where the leaf has subleaves.
inline bool is_leaf(const kvm_cpuid_entry2& entry, uint32_t leaf, uint32_t subleaf) noexcept {
  const bool by_subleaf = (entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0;
  return entry.function == leaf && (!by_subleaf || entry.index == subleaf);
}

/// kvm_cpuid2 as KVM takes it, with room for the longest table (KVM_MAX_CPUID_ENTRIES).
struct CpuidRequest {
  vmm_kvm_cpuid2_header header;
  std::array<kvm_cpuid_entry2, 256> entries;
};
static_assert(offsetof(CpuidRequest, entries) == sizeof(vmm_kvm_cpuid2_header));

class CpuidTable {
 public:
  static constexpr std::size_t kMaxEntries = std::tuple_size_v<decltype(CpuidRequest::entries)>;
  /// May throw bad_alloc.
  CpuidTable() { entries_.reserve(kMaxEntries); }

  void clear() noexcept { entries_.clear(); }
  void assign(std::span<const kvm_cpuid_entry2> entries) noexcept;

  bool known() const noexcept { return !entries_.empty(); }

  std::span<kvm_cpuid_entry2> entries() noexcept { return entries_; }

  /// eax, ebx, ecx, edx of a leaf; all 0 if the guest does not have it.
  void lookup(uint32_t leaf, uint32_t subleaf, std::span<uint32_t, 4> registers) const noexcept;
  std::array<uint32_t, 4> lookup(uint32_t leaf, uint32_t subleaf) const noexcept {
    std::array<uint32_t, 4> registers{};
    lookup(leaf, subleaf, registers);
    return registers;
  }

  /// KVM_GET_SUPPORTED_CPUID by `ioctl`(request, argument), whose result it is; below 0 the table
  /// stays as it is. May throw bad_alloc.
  template <typename Ioctl>
  int32_t read_supported(Ioctl ioctl) {
    const auto request = std::make_unique<CpuidRequest>();
    request->header.nent = kMaxEntries;
    const int32_t result = ioctl(VMM_KVM_GET_SUPPORTED_CPUID, request.get());
    if (result >= 0)
      assign({request->entries.data(), std::min<std::size_t>(request->header.nent, kMaxEntries)});
    return result;
  }
  /// KVM_SET_CPUID2 by `ioctl`(request, argument), whose result it is. May throw bad_alloc.
  template <typename Ioctl>
  int32_t apply(Ioctl ioctl) const {
    const auto request = std::make_unique<CpuidRequest>();
    request->header.nent = static_cast<uint32_t>(entries_.size());
    std::copy(entries_.begin(), entries_.end(), request->entries.begin());
    return ioctl(VMM_KVM_SET_CPUID2, request.get());
  }

 private:
  std::vector<kvm_cpuid_entry2> entries_;
};

}  // namespace host_kit
