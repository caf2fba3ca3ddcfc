// SPDX-License-Identifier: MIT
#include "host_preload/denied_msrs.hpp"

#include <cerrno>

namespace host_preload {
tl::expected<kvm_msr_filter, int32_t> filter_with_denied(int vm_number,
                                                         const kvm_msr_filter& vmm_filter,
                                                         const DenyList& denied,
                                                         PreloadLog& log) noexcept {
  auto merged = host_kit::merge_msr_filter(vmm_filter, denied);
  if (merged) return *merged;
  log.event(VMM_LOG_ERROR, "msr_filter_full vm=%d ranges=%u reason=\"KVM's filter has %d\"",
            vm_number, merged.error(), KVM_MSR_FILTER_MAX_RANGES);
  return tl::unexpected<int32_t>(-ENOSPC);
}

bool answer_msr_exit(Vcpu& vcpu, kvm_run& run, PreloadLog& log) noexcept {
  if (run.exit_reason != KVM_EXIT_X86_RDMSR && run.exit_reason != KVM_EXIT_X86_WRMSR) return false;
  if (run.msr.reason != KVM_MSR_EXIT_REASON_FILTER) return false;
  Vm& vm = *vcpu.vm;
  if (!host_kit::answer_denied_msr(vm.denied, run)) {
    if (!vm.exits_for_denied || vm.vmm_wants_exits.load(std::memory_order_relaxed)) return false;
    run.msr.error = 1;
    return true;
  }
  if (!vm.answered_an_exit.exchange(true))
    log.event(VMM_LOG_INFO,
              "msr_exit_answered vm=%d vcpu=%u msr=%x answer=%s reason=\"further ones are not "
              "logged\"",
              vm.number, vcpu.index, run.msr.index, run.msr.error == 0 ? "ignored" : "#GP");
  return true;
}

}  // namespace host_preload
