// SPDX-License-Identifier: MIT
//
// One MSR of a vCPU, by way of KVM. A vCPU is anything with `int32_t ioctl(uint32_t, void*)`, which
// gives the kernel's result or -errno.
#pragma once

#include <vmm/kvm_uapi.h>

#include <cstddef>
#include <cstdint>
#include <optional>

namespace host_kit {

/// A KVM_GET_MSRS or KVM_SET_MSRS request of one MSR.
struct OneMsr {
  vmm_kvm_msrs_header header{1, 0};
  kvm_msr_entry entry{};
};
static_assert(offsetof(OneMsr, entry) == sizeof(vmm_kvm_msrs_header));

/// Empty: KVM does not let it be read, or the ioctl failed.
template <typename Vcpu>
std::optional<uint64_t> get_msr(Vcpu& vcpu, uint32_t msr) {
  OneMsr request{.entry = {msr, 0, 0}};
  if (vcpu.ioctl(VMM_KVM_GET_MSRS, &request) != 1) return std::nullopt;
  return request.entry.data;
}

/// Whether KVM said that it took the value.
template <typename Vcpu>
bool set_msr(Vcpu& vcpu, uint32_t msr, uint64_t value) {
  OneMsr request{.entry = {msr, 0, value}};
  return vcpu.ioctl(VMM_KVM_SET_MSRS, &request) == 1;
}

}  // namespace host_kit
