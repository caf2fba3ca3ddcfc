// SPDX-License-Identifier: MIT
//
// Structs of the ABI that the other side wrote: what each has at least, and how it is copied so
// that an older and a newer side understand each other (vmm/plugin.h, GROWTH).
#pragma once

#include <vmm/plugin.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace host_kit {

// The sizes of ABI 1.0: what every such struct has at least. What follows may be missing.
inline constexpr uint32_t kHooksSizeV1_0 =
    offsetof(vmm_hooks, vcpu_reset) + sizeof(vmm_hooks::vcpu_reset);
inline constexpr uint32_t kPluginSizeV1_0 =
    offsetof(vmm_plugin, destroy) + sizeof(vmm_plugin::destroy);
inline constexpr uint32_t kHostSizeV1_0 = offsetof(vmm_host, log) + sizeof(vmm_host::log);

/// As much of `from` as its writer and this program both know; the rest is zero. Whole words only:
/// a size that ends inside a field must not tear a pointer. `from` has at least the size of
/// ABI 1.0.
template <typename T>
T copy_struct(const T& from) noexcept {
  T to{};
  const std::size_t size = std::min<std::size_t>(from.struct_size, sizeof to);
  // cppcheck-suppress pointerSize ; a pointer's size is meant
  std::memcpy(static_cast<void*>(&to), &from, size - size % sizeof(void*));
  return to;
}

}  // namespace host_kit
