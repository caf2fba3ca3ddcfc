// SPDX-License-Identifier: MIT
#include "host_preload/kept_caps.hpp"

#include <vmm/kvm_uapi.h>

#include "host_preload/real_calls.hpp"

namespace host_preload {

void note_plugins_cap(Vm& vm, const kvm_enable_cap& cap) noexcept {
  if (cap.cap == KVM_CAP_PMU_CAPABILITY && (cap.args[0] & KVM_PMU_CAP_DISABLE) != 0)
    vm.pmu_disabled = true;
}

bool enable_msr_exits(Vm& vm) noexcept {
  kvm_enable_cap cap{};
  cap.cap = KVM_CAP_X86_USER_SPACE_MSR;
  cap.args[0] = KVM_MSR_EXIT_REASON_FILTER;
  return real_ioctl_result(vm.fd.load(), KVM_ENABLE_CAP, &cap) >= 0;
}

std::optional<kvm_enable_cap> with_kept_bits(Vm& vm, const kvm_enable_cap& vmm_cap,
                                             PreloadLog& log) noexcept {
  uint64_t kept = 0;
  if (vmm_cap.cap == KVM_CAP_PMU_CAPABILITY && vm.pmu_disabled) kept = KVM_PMU_CAP_DISABLE;
  if (vmm_cap.cap == KVM_CAP_X86_USER_SPACE_MSR && vm.exits_for_denied)
    kept = KVM_MSR_EXIT_REASON_FILTER;
  if ((vmm_cap.args[0] & kept) == kept) return std::nullopt;
  if (vmm_cap.cap == KVM_CAP_PMU_CAPABILITY && !vm.said_pmu_kept.exchange(true))
    log.event(VMM_LOG_WARNING,
              "pmu_kept_off vm=%d reason=\"the VMM's KVM_ENABLE_CAP(KVM_CAP_PMU_CAPABILITY) would "
              "have turned on the vPMU that a plugin switched off\"",
              vm.number);
  kvm_enable_cap cap = vmm_cap;
  cap.args[0] |= kept;
  return cap;
}

void note_vmms_cap(Vm& vm, const kvm_enable_cap& vmm_cap) noexcept {
  if (vmm_cap.cap == KVM_CAP_X86_USER_SPACE_MSR)
    vm.vmm_wants_exits.store((vmm_cap.args[0] & KVM_MSR_EXIT_REASON_FILTER) != 0);
}

}  // namespace host_preload
