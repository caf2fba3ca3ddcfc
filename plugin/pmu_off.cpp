// SPDX-License-Identifier: MIT
#include "pmu_off.hpp"

#include <cpuid.h>
#include <vmm/guest_pmu.h>

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

/// CPUID leaf 0 where the host does not know KVM's: the guest's, and at last this machine's.
CpuidRegisters likely_vendor(const Host& host, vmm_vm_handle vm) noexcept {
  if (const auto guest = host.cpuid(vm, nullptr, amd::kLeafVendor)) return *guest;
  CpuidRegisters machine;
  __cpuid(amd::kLeafVendor, machine.eax, machine.ebx, machine.ecx, machine.edx);
  return machine;
}

Expected<Attempt> by_msr_filter(const Host& host, const Options& options,
                                vmm_vm_handle vm) noexcept {
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

constexpr vmm_cpuid_bits kPmuCpuid[] = {
    {amd::kLeafExtFeatures, 0, VMM_CPUID_ECX,
     amd::kPerfCtrExtCoreBit | amd::kPerfCtrExtNbBit | amd::kPerfCtrExtLlcBit},
    {amd::kLeafExtPerfMonAndDbg, 0, VMM_CPUID_EAX, amd::kPerfMonV2Bit},
    {amd::kLeafExtPerfMonAndDbg, 0, VMM_CPUID_EBX, amd::kNumPerfCtrMask},
};

/// Hides from the guest that there could be a PMU. A VMM that trusts these bits writes registers
/// that KVM refuses (QEMU 11 aborts), and a guest driver that trusts them takes #GP.
Expected<void> hide_pmu_cpuid(const Host& host, const Options& options, vmm_vm_handle vm,
                              Vpmu vpmu) noexcept {
  const bool hidden = options.pmu_cpuid == PmuCpuid::hide ||
                      (options.pmu_cpuid == PmuCpuid::automatic && vpmu != Vpmu::already_off);
  if (!hidden || vpmu == Vpmu::on) return {};
  const int32_t result = host.hide_cpuid(vm, kPmuCpuid);
  if (result == 0) {
    host.log(VMM_LOG_INFO, Text("PerfCtrExtCore and PerfMonV2 are hidden from the guest's CPUID"));
    return {};
  }
  Text line(
      "the guest's CPUID still announces PerfCtrExtCore and PerfMonV2 if its VMM sets them: ");
  if (result == -EOPNOTSUPP)
    line << "the plugin host cannot hide CPUID bits";
  else
    line << "hide_cpuid failed: " << Errno{result};
  // with auto a host that offers no hiding is as it was before there was any
  const bool matters = options.pmu_cpuid == PmuCpuid::hide || result != -EOPNOTSUPP;
  if (matters && options.strict) return fail(result < 0 ? result : -EPROTO, line << " (strict=on)");
  host.log(matters ? VMM_LOG_WARNING : VMM_LOG_INFO, line);
  return {};
}

/// Whether this VM is to have no vPMU.
Expected<bool> wants_off(const Host& host, const Options& options, vmm_vm_handle vm) noexcept {
  if (options.pmu_cap_disabled != PmuOff::automatic) return options.pmu_cap_disabled == PmuOff::on;
  const auto said = host.guest_pmu(vm);
  if (said) return *said == VMM_GUEST_PMU_OFF;
  Text line(
      "pmu-cap-disabled=auto: the plugin host does not say what the VMM was told about the "
      "guest's PMU");
  if (options.strict) return fail(-EOPNOTSUPP, line << " (strict=on)");
  host.log(VMM_LOG_WARNING, line << "; the vPMU stays as KVM has it");
  return false;
}

/// On another vendor's processor nothing is done. Who follows the VMM's own word asked for nothing
/// there: other vendors' PMUs are the VMM's to switch off, by CPUID.
Expected<Vpmu> not_amd(const Host& host, const Options& options, Vpmu vpmu) noexcept {
  if (options.pmu_cap_disabled != PmuOff::on) return vpmu;
  Text line(
      "vPMU cannot be disabled for this VM: the processor is neither AMD's nor Hygon's, and this "
      "plugin leaves other vPMUs alone");
  if (options.strict) return fail(-EOPNOTSUPP, line << " (strict=on)");
  host.log(VMM_LOG_WARNING, line);
  return vpmu;
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
           line << "; if KVM gives the guest a vPMU, it stays on"
                << (options.pmu_reset ? ", and AMD's PMU registers are still reset" : ""));
  return Vpmu::on;
}

}  // namespace

namespace {

/// Tries the methods in their order.
Expected<Vpmu> switch_off(const Host& host, const Options& options, vmm_vm_handle vm) noexcept {
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

}  // namespace

Expected<Vpmu> apply_pmu_off(const Host& host, const Options& options, vmm_vm_handle vm) noexcept {
  const auto supported = host.supported_cpuid(vm, amd::kLeafVendor);
  if (supported && !has_amd_pmu(*supported)) return not_amd(host, options, Vpmu::none);
  const auto wanted = wants_off(host, options, vm);
  if (!wanted) return tl::unexpected(wanted.error());
  if (!*wanted) {
    host.log(VMM_LOG_DEBUG, Text("vPMU stays as KVM has it (pmu-cap-disabled=")
                                << (options.pmu_cap_disabled == PmuOff::off
                                        ? "off)"
                                        : "auto, and the VMM was not told to switch it off)"));
    return Vpmu::on;
  }
  // a guess: registers that turn out to be there are still reset
  if (!supported && !has_amd_pmu(likely_vendor(host, vm))) return not_amd(host, options, Vpmu::on);
  const auto vpmu = switch_off(host, options, vm);
  if (!vpmu) return vpmu;
  if (const auto hidden = hide_pmu_cpuid(host, options, vm, *vpmu); !hidden)
    return tl::unexpected(hidden.error());
  return vpmu;
}

}  // namespace svm_pmu
