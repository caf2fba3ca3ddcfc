// SPDX-License-Identifier: MIT
#include "host_preload/denied_msrs.hpp"

#include <cerrno>

namespace host_preload {
namespace {

/// PerfEvtSel0-3 and PerfCtr0-3 (K7): there on every AMD processor.
constexpr uint32_t kLegacyFirst = 0xc0010000;
constexpr uint32_t kLegacyLast = 0xc0010007;

}  // namespace

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
  const bool read = run.exit_reason == KVM_EXIT_X86_RDMSR;
  if (!read && run.exit_reason != KVM_EXIT_X86_WRMSR) return false;
  if (run.msr.reason != KVM_MSR_EXIT_REASON_FILTER) return false;
  Vm& vm = *vcpu.vm;
  const uint32_t msr = run.msr.index;
  if (!vm.denied.denies(msr)) {
    if (!vm.exits_for_denied || vm.vmm_wants_exits.load(std::memory_order_relaxed)) return false;
    run.msr.error = 1;
    return true;
  }
  const bool ignored = msr >= kLegacyFirst && msr <= kLegacyLast;
  run.msr.error = ignored ? 0 : 1;
  if (ignored && read) run.msr.data = 0;
  if (!vm.answered_an_exit.exchange(true))
    log.event(VMM_LOG_INFO,
              "msr_exit_answered vm=%d vcpu=%u msr=%x answer=%s reason=\"further ones are not "
              "logged\"",
              vm.number, vcpu.index, msr, ignored ? "ignored" : "#GP");
  return true;
}

}  // namespace host_preload
