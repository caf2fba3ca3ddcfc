// SPDX-License-Identifier: MIT
//
// One KVM ioctl of the VMM's, from its arguments to its result.
#pragma once

#include <linux/kvm.h>

#include <cerrno>
#include <cstdint>
#include <optional>

namespace host_preload {

/// The kernel looks at the low 32 bits of a request; some callers pass it as a signed int.
constexpr uint32_t number_of(unsigned long request) { return static_cast<uint32_t>(request); }

struct KvmCall {
  int fd;
  uint32_t number;
  unsigned long request;
  void* arg;  ///< what KVM gets: the VMM's own, or a copy that is ours

  int result = 0;  ///< of the ioctl
  int error = 0;   ///< errno that it left

  std::optional<kvm_msr_filter> filter;  ///< room for a copy

  /// A call that is failed on purpose. EINTR would make VMMs try again without end.
  void fail(int32_t code) noexcept {
    result = -1;
    error = code == -EINTR ? EIO : -code;
  }
};

}  // namespace host_preload
