// SPDX-License-Identifier: MIT
//
// The KVM ioctls that the plugin uses, one function each, through the host's callbacks. Errors name
// the ioctl, its subject and the errno.
#pragma once

#include <vmm/kvm_uapi.h>
#include <vmm/plugin.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "error.hpp"
#include "host.hpp"

namespace svm_pmu::kvm {

/// A capability by its number and its name in <linux/kvm.h>.
struct Capability {
  uint32_t number;
  const char* name;
};
inline constexpr Capability kPmuCapability{KVM_CAP_PMU_CAPABILITY, "KVM_CAP_PMU_CAPABILITY"};
inline constexpr Capability kDisableQuirks2{KVM_CAP_DISABLE_QUIRKS2, "KVM_CAP_DISABLE_QUIRKS2"};
inline constexpr Capability kX86MsrFilter{KVM_CAP_X86_MSR_FILTER, "KVM_CAP_X86_MSR_FILTER"};

/// KVM_CHECK_EXTENSION on the VM: 0 = not there, else the capability's value.
Expected<uint32_t> check_extension(const Host& host, vmm_vm_handle vm,
                                   const Capability& capability) noexcept;

/// KVM_ENABLE_CAP(KVM_CAP_PMU_CAPABILITY, KVM_PMU_CAP_DISABLE). 0 or a negated errno.
int32_t disable_pmu(const Host& host, vmm_vm_handle vm) noexcept;

/// KVM_X86_SET_MSR_FILTER: the guest may access every MSR but these. Replaces the VM's filter. At
/// most 16 ranges of at most 64 MSRs. 0 or a negated errno.
int32_t deny_msrs(const Host& host, vmm_vm_handle vm,
                  std::span<const vmm_msr_range> ranges) noexcept;

/// A KVM_SET_MSRS or KVM_GET_MSRS request of at most `kCapacity` MSRs.
struct MsrRequest {
  static constexpr std::size_t kCapacity = 16;
  vmm_kvm_msrs_header header;
  std::array<kvm_msr_entry, kCapacity> entries;
};
static_assert(offsetof(MsrRequest, entries) == sizeof(vmm_kvm_msrs_header));

/// How many of the request's MSRs KVM took, from the first on; fewer than asked for names the one
/// that it refused. Or a negated errno; -EPROTO if the host's answer is impossible.
int32_t set_msrs(const Host& host, vmm_vcpu_handle vcpu, MsrRequest& request) noexcept;
int32_t get_msrs(const Host& host, vmm_vcpu_handle vcpu, MsrRequest& request) noexcept;

}  // namespace svm_pmu::kvm
