// SPDX-License-Identifier: MIT
//
// One KVM ioctl of the VMM's, from its arguments to its result.
#pragma once

#include <linux/kvm.h>

#include <cerrno>
#include <cstdint>
#include <variant>

namespace host_preload {

/// The kernel looks at the low 32 bits of a request; some callers pass it as a signed int.
constexpr uint32_t number_of(unsigned long request) { return static_cast<uint32_t>(request); }

struct KvmCall {
  int fd;
  uint32_t number;
  unsigned long request;
  void* vmm_arg;  ///< as the VMM gave it
  void* arg;      ///< what KVM gets: the VMM's, or a copy of ours

  int result = 0;  ///< of the ioctl
  int error = 0;   ///< errno that it left

  std::variant<std::monostate, kvm_msr_filter, kvm_enable_cap> copy;

  /// From here on KVM gets a copy that is ours.
  template <typename T>
  T& use_copy(const T& ours) noexcept {
    T& kept = copy.emplace<T>(ours);
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
