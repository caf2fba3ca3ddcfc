// SPDX-License-Identifier: MIT
#include "host_preload/plugin_calls.hpp"

#include <cerrno>
#include <mutex>
#include <new>
#include <utility>

#include "host_preload/denied_msrs.hpp"
#include "host_preload/kept_caps.hpp"
#include "host_preload/kvm_call.hpp"
#include "host_preload/real_calls.hpp"
#include "host_preload/vm.hpp"

namespace host_preload {

const char* PluginCalls::name() const noexcept { return "vmm_preload " SVM_PMU_VERSION; }

int32_t PluginCalls::vm_ioctl(vmm_vm_handle handle, uint32_t request, void* arg) noexcept {
  Vm& vm = Vm::of(handle);
  const int32_t result = real_ioctl_result(vm.fd.load(), request, arg);
  if (result >= 0 && request == number_of(KVM_ENABLE_CAP))
    note_plugins_cap(vm, *static_cast<const kvm_enable_cap*>(arg));
  return result;
}

int32_t PluginCalls::vcpu_ioctl(vmm_vcpu_handle vcpu, uint32_t request, void* arg) noexcept {
  return real_ioctl_result(Vcpu::of(vcpu).hook_fd, request, arg);
}

void PluginCalls::log(uint32_t level, std::string_view source, std::string_view message) noexcept {
  log_.plugin(level, source, message);
}

int32_t PluginCalls::get_cpuid(vmm_vm_handle handle, vmm_vcpu_handle vcpu_handle, uint32_t leaf,
                               uint32_t subleaf, std::span<uint32_t, 4> registers) noexcept {
  Vm& vm = Vm::of(handle);
  const std::lock_guard lock(vm.mutex);
  const Vcpu* asked = vcpu_handle != nullptr ? &Vcpu::of(vcpu_handle) : nullptr;
  for (const Vcpu* vcpu : vm.vcpus) {
    if ((asked != nullptr && vcpu != asked) || !vcpu->cpuid.known()) continue;
    vcpu->cpuid.lookup(leaf, subleaf, registers);
    return 0;
  }
  return -ENOENT;
}

int32_t PluginCalls::deny_msrs(vmm_vm_handle handle, std::span<const vmm_msr_range> ranges) noexcept
    try {
  Vm& vm = Vm::of(handle);
  if (!vm.creating.load()) return -EINVAL;  // during vm_created only
  if (vm_ioctl(handle, KVM_CHECK_EXTENSION, reinterpret_cast<void*>(KVM_CAP_X86_MSR_FILTER)) <= 0)
    return -EOPNOTSUPP;
  DenyList denied = vm.denied;
  if (const int32_t result = denied.add(ranges); result < 0) return result;
  auto filter = filter_with_denied(vm.number, kvm_msr_filter{}, denied, log_);
  if (!filter) return filter.error();
  if (const int32_t result = vm_ioctl(handle, number_of(KVM_X86_SET_MSR_FILTER), &*filter);
      result < 0)
    return result;
  vm.denied = std::move(denied);
  vm.exits_for_denied = enable_msr_exits(vm);
  return 0;
} catch (const std::bad_alloc&) {
  return -ENOMEM;
}

int32_t PluginCalls::hide_cpuid(vmm_vm_handle handle, std::span<const vmm_cpuid_bits> bits) noexcept
    try {
  Vm& vm = Vm::of(handle);
  if (!vm.creating.load()) return -EINVAL;  // as deny_msrs
  return vm.hidden.add(bits);
} catch (const std::bad_alloc&) {
  return -ENOMEM;
}

int32_t PluginCalls::get_supported_cpuid(vmm_vm_handle handle, uint32_t leaf, uint32_t subleaf,
                                         std::span<uint32_t, 4> registers) noexcept {
  const CpuidTable& supported = Vm::of(handle).supported;
  if (!supported.known()) return -ENOENT;
  supported.lookup(leaf, subleaf, registers);
  return 0;
}

uint32_t PluginCalls::guest_pmu_wanted(vmm_vm_handle handle) noexcept {
  switch (Vm::of(handle).guest_pmu) {
    case GuestPmu::off:
      return VMM_GUEST_PMU_OFF;
    case GuestPmu::on:
      return VMM_GUEST_PMU_ON;
    case GuestPmu::unsaid:
      break;
  }
  return VMM_GUEST_PMU_UNSAID;
}

}  // namespace host_preload
