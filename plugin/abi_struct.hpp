// SPDX-License-Identifier: MIT
//
// Structs of vmm/plugin.h that another version of the header may have made longer or shorter.
#pragma once

#include <vmm/guest_pmu.h>
#include <vmm/plugin.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace svm_pmu {

/// The smallest size of a struct that is accepted: up to its last member of ABI 1.0, whatever a
/// later minor version appends.
template <typename T>
inline constexpr uint32_t kSizeV1_0 = 0;
template <>
inline constexpr uint32_t kSizeV1_0<vmm_error> = offsetof(vmm_error, message) +
                                                 sizeof(vmm_error::message);
template <>
inline constexpr uint32_t kSizeV1_0<vmm_msr_sink> = offsetof(vmm_msr_sink, add) +
                                                    sizeof(vmm_msr_sink::add);
template <>
inline constexpr uint32_t kSizeV1_0<vmm_vm> = offsetof(vmm_vm, handle) + sizeof(vmm_vm::handle);
template <>
inline constexpr uint32_t kSizeV1_0<vmm_vcpu> = offsetof(vmm_vcpu, batch) + sizeof(vmm_vcpu::batch);
template <>
inline constexpr uint32_t kSizeV1_0<vmm_guest_pmu> = offsetof(vmm_guest_pmu, wanted) +
                                                     sizeof(vmm_guest_pmu::wanted);
/// The optional callbacks at the end of the host's table may be left off.
template <>
inline constexpr uint32_t kSizeV1_0<vmm_host> = offsetof(vmm_host, get_cpuid);

/// Copies as much of `from` as both sides know into a zeroed `to`. False if there is no struct or
/// less of it than ABI 1.0 has. S2.
template <typename T>
bool copy_struct(T& to, const T* from) noexcept {
  static_assert(kSizeV1_0<T> != 0, "say which size ABI 1.0 had");
  to = T{};
  if (from == nullptr || from->struct_size < kSizeV1_0<T>) return false;
  // whole words only: a size that ends inside a field must not tear a pointer
  const std::size_t size = std::min<std::size_t>(from->struct_size, sizeof to);
  // cppcheck-suppress pointerSize ; a pointer's size is meant
  std::memcpy(static_cast<void*>(&to), from, size - size % sizeof(void*));
  return true;
}

}  // namespace svm_pmu
