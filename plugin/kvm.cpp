// SPDX-License-Identifier: MIT
#include "kvm.hpp"

#include <algorithm>
#include <cerrno>

namespace svm_pmu::kvm {
namespace {

int32_t msr_ioctl(const Host& host, vmm_vcpu_handle vcpu, uint32_t number,
                  MsrRequest& request) noexcept {
  const auto asked = static_cast<int32_t>(request.header.nmsrs);
  const int32_t taken = host.vcpu_ioctl(vcpu, number, &request);
  return taken > asked ? -EPROTO : taken;
}

}  // namespace

Expected<uint32_t> check_extension(const Host& host, vmm_vm_handle vm,
                                   const Capability& capability) noexcept {
  const int32_t result =
      host.vm_ioctl(vm, KVM_CHECK_EXTENSION, reinterpret_cast<void*>(uintptr_t{capability.number}));
  if (result < 0)
    return fail(result, Text() << "KVM_CHECK_EXTENSION(" << capability.name
                               << ") failed: " << Errno{result});
  return static_cast<uint32_t>(result);
}

int32_t disable_pmu(const Host& host, vmm_vm_handle vm) noexcept {
  kvm_enable_cap request{};
  request.cap = KVM_CAP_PMU_CAPABILITY;
  request.args[0] = KVM_PMU_CAP_DISABLE;
  return host.vm_ioctl(vm, KVM_ENABLE_CAP, &request);
}

int32_t deny_msrs(const Host& host, vmm_vm_handle vm,
                  std::span<const vmm_msr_range> ranges) noexcept {
  // one word of zero bits denies up to 64 MSRs; KVM reads whole longs
  static constexpr uint64_t kDenyAll = 0;
  if (ranges.size() > KVM_MSR_FILTER_MAX_RANGES) return -ENOSPC;
  kvm_msr_filter filter{};
  filter.flags = KVM_MSR_FILTER_DEFAULT_ALLOW;
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    if (ranges[i].count > 64) return -EINVAL;
    filter.ranges[i].flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE;
    filter.ranges[i].nmsrs = ranges[i].count;
    filter.ranges[i].base = ranges[i].base;
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): KVM only reads it
    filter.ranges[i].bitmap = reinterpret_cast<uint8_t*>(const_cast<uint64_t*>(&kDenyAll));
  }
  return host.vm_ioctl(vm, KVM_X86_SET_MSR_FILTER, &filter);
}

int32_t set_msrs(const Host& host, vmm_vcpu_handle vcpu, MsrRequest& request) noexcept {
  return msr_ioctl(host, vcpu, VMM_KVM_SET_MSRS, request);
}

int32_t get_msrs(const Host& host, vmm_vcpu_handle vcpu, MsrRequest& request) noexcept {
  return msr_ioctl(host, vcpu, VMM_KVM_GET_MSRS, request);
}

}  // namespace svm_pmu::kvm
