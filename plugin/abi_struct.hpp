// SPDX-License-Identifier: MIT
//
// Structs of vmm/plugin.h that another version of the header may have made longer or shorter.
#pragma once

#include <vmm/plugin.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace svm_pmu {

/// The smallest size of a struct that is accepted: what it had in ABI 1.0. Once a minor version
/// appends a field this becomes the offset of the first one that it appended.
template <typename T>
inline constexpr uint32_t kSizeV1_0 = sizeof(T);
/// The optional callbacks at the end of the host's table may be left off.
template <>
inline constexpr uint32_t kSizeV1_0<vmm_host> = offsetof(vmm_host, get_cpuid);

/// Copies as much of `from` as both sides know into a zeroed `to`. False if there is no struct or
/// less of it than ABI 1.0 has. S2.
template <typename T>
bool copy_struct(T& to, const T* from) noexcept {
  to = T{};
  if (from == nullptr || from->struct_size < kSizeV1_0<T>) return false;
  // whole words only: a size that ends inside a field must not tear a pointer
  const std::size_t size = std::min<std::size_t>(from->struct_size, sizeof to);
  std::memcpy(static_cast<void*>(&to), from, size - size % sizeof(void*));
  return true;
}

}  // namespace svm_pmu
