// SPDX-License-Identifier: MIT
//
// One KVM ioctl of the VMM's, from its arguments to its result.
#pragma once

#include <linux/kvm.h>

#include <vmm/kvm_uapi.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace host_preload {

/// The kernel looks at the low 32 bits of a request; some callers pass it as a signed int.
constexpr uint32_t number_of(unsigned long request) { return static_cast<uint32_t>(request); }

/// A KVM_SET_CPUID2 or KVM_GET_SUPPORTED_CPUID request of our own. May throw bad_alloc.
class CpuidCopy {
 public:
  explicit CpuidCopy(std::span<const kvm_cpuid_entry2> table) : entries_(table.size() + 1) {
    const vmm_kvm_cpuid2_header header{static_cast<uint32_t>(table.size()), 0};
    std::memcpy(data(), &header, sizeof header);
    std::copy(table.begin(), table.end(), all().begin());
  }

  void* data() noexcept {
    return reinterpret_cast<std::byte*>(entries_.data() + 1) - sizeof(vmm_kvm_cpuid2_header);
  }
  std::span<kvm_cpuid_entry2> all() noexcept { return std::span(entries_).subspan(1); }

 private:
  std::vector<kvm_cpuid_entry2> entries_;  // the header stands at the end of the first
};

struct KvmCall {
  int fd;
  uint32_t number;
  unsigned long request;
  void* vmm_arg;  ///< as the VMM gave it
  void* arg;      ///< what KVM gets: the VMM's, or a copy of ours

  int result = 0;  ///< of the ioctl
  int error = 0;   ///< errno that it left

  std::tuple<std::optional<kvm_msr_filter>, std::optional<kvm_enable_cap>, std::optional<CpuidCopy>>
      copies;  ///< one of them at most

  /// From here on KVM gets a copy that is ours.
  template <typename T>
  T& use_copy(T ours) noexcept {
    T& kept = std::get<std::optional<T>>(copies).emplace(std::move(ours));
    if constexpr (std::is_same_v<T, CpuidCopy>)
      arg = kept.data();
    else
      arg = &kept;
    return kept;
  }
  bool copied() const noexcept { return arg != vmm_arg; }

  /// A call that is failed on purpose. EINTR would make VMMs try again without end.
  void fail(int32_t code) noexcept {
    result = -1;
    error = code == -EINTR ? EIO : -code;
  }
};

}  // namespace host_preload
