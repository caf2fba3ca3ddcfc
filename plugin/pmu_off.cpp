// SPDX-License-Identifier: MIT
#include "pmu_off.hpp"

#include <cpuid.h>

#include <cerrno>

#include "amd_pmu.hpp"
#include "kvm.hpp"
#include "pmu_layout.hpp"

namespace svm_pmu {
namespace {

/// Every PMU register that KVM's AMD vPMU can have, as ranges for a deny filter.
constexpr vmm_msr_range kPmuRanges[] = {
    {amd::kPerfEvtSel0, 2 * amd::kLegacyCounters},
    {amd::kPerfCtl0, 2 * amd::kExtCounters},
    {amd::kGlobalStatus, amd::kGlobalRegisters},
};

/// What one method came to: done, not possible here (with the reason), or an error.
struct Attempt {
  bool done = false;
  Vpmu vpmu = Vpmu::on;
  Text reason;
};

Expected<Attempt> by_capability(const Host& host, vmm_vm_handle vm) noexcept {
  const auto offered = kvm::check_extension(host, vm, kvm::kPmuCapability);
  if (!offered) return tl::unexpected(offered.error());
  if ((*offered & KVM_PMU_CAP_DISABLE) != 0) {
    const int32_t result = kvm::disable_pmu(host, vm);
    if (result < 0)
      return fail(result, Text() << "KVM offers KVM_PMU_CAP_DISABLE but "
                                    "KVM_ENABLE_CAP(KVM_CAP_PMU_CAPABILITY) failed: "
                                 << Errno{result}
                                 << "; it must come before the VM's first KVM_CREATE_VCPU");
    host.log(VMM_LOG_INFO, Text("vPMU disabled for this VM by KVM_CAP_PMU_CAPABILITY"));
    return Attempt{true, Vpmu::off_by_cap, {}};
  }
  const auto quirks = kvm::check_extension(host, vm, kvm::kDisableQuirks2);
  if (!quirks) return tl::unexpected(quirks.error());
  if (*quirks != 0) {
    host.log(VMM_LOG_INFO, Text("vPMU is already off on this host, nothing to do: KVM knows "
                                "KVM_CAP_PMU_CAPABILITY but has nothing to disable, as with "
                                "kvm.enable_pmu=N"));
    return Attempt{true, Vpmu::already_off, {}};
  }
  return Attempt{false, Vpmu::on, Text("no KVM_CAP_PMU_CAPABILITY (Linux 5.18)")};
}

/// The guest's CPUID leaf 0, or this machine's while the host does not know it: KVM makes the vPMU
/// of the machine's vendor.
CpuidRegisters vendor_of(const Host& host, vmm_vm_handle vm) noexcept {
  if (const auto guest = host.cpuid(vm, nullptr, amd::kLeafVendor)) return *guest;
  CpuidRegisters machine;
  __cpuid(amd::kLeafVendor, machine.eax, machine.ebx, machine.ecx, machine.edx);
  return machine;
}

Expected<Attempt> by_msr_filter(const Host& host, const Options& options,
                                vmm_vm_handle vm) noexcept {
  if (!has_amd_pmu(vendor_of(host, vm)))
    return Attempt{false, Vpmu::on, Text("an MSR filter covers AMD's registers only")};
  int32_t result = 0;
  const char* filter = "the host's MSR filter";
  if (host.has_msr_filter()) {
    const vmm_host& table = host.table();
    result = table.deny_msrs(table.host_ctx, vm, kPmuRanges, std::size(kPmuRanges));
  } else {
    const auto offered = kvm::check_extension(host, vm, kvm::kX86MsrFilter);
    if (!offered) return tl::unexpected(offered.error());
    if (*offered == 0)
      return Attempt{false, Vpmu::on, Text("no KVM_CAP_X86_MSR_FILTER (Linux 5.10)")};
    filter = "KVM_X86_SET_MSR_FILTER";
    result = kvm::deny_msrs(host, vm, kPmuRanges);
  }
  if (result == -EOPNOTSUPP) return Attempt{false, Vpmu::on, Text() << filter << ": EOPNOTSUPP"};
  if (result != 0)
    return fail(result < 0 ? result : -EPROTO, Text() << filter
                                                      << " over c0010000-7, c0010200-b, "
                                                         "c0000300-3 failed: "
                                                      << Errno{result});
  // a fallback is worth an operator's attention, a chosen method is not
  const bool chosen = options.pmu_off_method == PmuOffMethod::msr_filter;
  host.log(chosen ? VMM_LOG_INFO : VMM_LOG_WARNING,
           Text() << "vPMU hidden from this VM by " << filter
                  << ": RDMSR and WRMSR of the PMU registers take #GP, RDPMC does not"
                  << (chosen ? "" : "; this kernel has no KVM_CAP_PMU_CAPABILITY (Linux 5.18)"));
  return Attempt{true, Vpmu::filtered, {}};
}

Expected<Vpmu> not_possible(const Host& host, const Options& options, const Text& why) noexcept {
  Text line;
  line << "vPMU cannot be disabled for this VM with pmu-off-method="
       << (options.pmu_off_method == PmuOffMethod::automatic ? "auto"
           : options.pmu_off_method == PmuOffMethod::cap     ? "cap"
                                                             : "msr-filter")
       << ": " << why.view();
  if (options.strict) return fail(-EOPNOTSUPP, line << " (strict=on)");
  host.log(VMM_LOG_WARNING,
           line << "; a vPMU that KVM gives the guest stays on"
                << (options.pmu_reset ? ", AMD's PMU registers are still reset" : ""));
  return Vpmu::on;
}

}  // namespace

Expected<Vpmu> apply_pmu_off(const Host& host, const Options& options, vmm_vm_handle vm) noexcept {
  if (!options.pmu_cap_disabled) {
    host.log(VMM_LOG_DEBUG, Text("vPMU left as KVM has it (pmu-cap-disabled=off)"));
    return Vpmu::on;
  }
  Text why;
  if (options.pmu_off_method != PmuOffMethod::msr_filter) {
    const auto attempt = by_capability(host, vm);
    if (!attempt) return tl::unexpected(attempt.error());
    if (attempt->done) return attempt->vpmu;
    why << attempt->reason.view();
  }
  if (options.pmu_off_method != PmuOffMethod::cap) {
    const auto attempt = by_msr_filter(host, options, vm);
    if (!attempt) return tl::unexpected(attempt.error());
    if (attempt->done) return attempt->vpmu;
    why << (why.view().empty() ? "" : "; ") << attempt->reason.view();
  }
  return not_possible(host, options, why);
}

}  // namespace svm_pmu
