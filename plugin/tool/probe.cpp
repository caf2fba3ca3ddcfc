// SPDX-License-Identifier: MIT
#include "tool/probe.hpp"

#include <fmt/format.h>
#include <vmm/kvm_uapi.h>

#include <algorithm>
#include <cerrno>
#include <iterator>

#include "amd_pmu.hpp"
#include "host_kit/one_msr.hpp"
#include "tool/words.hpp"

namespace svm_pmu::tool {
namespace {

using host_kit::get_msr;
using host_kit::set_msr;

struct MsrRange {
  uint32_t base, count;
};
constexpr MsrRange kPmuMsrs[] = {{amd::kPerfEvtSel0, 2 * amd::kLegacyCounters},
                                 {amd::kPerfCtl0, 2 * amd::kExtCounters},
                                 {amd::kGlobalStatus, amd::kGlobalRegisters}};

void* number(uintptr_t value) { return reinterpret_cast<void*>(value); }

std::vector<uint32_t> listed_pmu_msrs(Kvm& kvm) {
  constexpr uint32_t kMost = 4096;
  std::vector<uint32_t> words(kMost + 1);  // header and indexes
  words[0] = kMost;
  std::vector<uint32_t> pmu;
  if (kvm.ioctl(VMM_KVM_GET_MSR_INDEX_LIST, words.data()) < 0) return pmu;
  const auto in_pmu = [](uint32_t msr) {
    return std::ranges::any_of(kPmuMsrs, [&](const MsrRange& range) {
      return msr >= range.base && msr - range.base < range.count;
    });
  };
  std::copy_if(words.begin() + 1, words.begin() + 1 + std::min(words[0], kMost),
               std::back_inserter(pmu), in_pmu);
  std::ranges::sort(pmu);
  return pmu;
}

struct VmKind {
  bool irqchip, cap_off;
};

CounterAnswer try_vm(Kvm& kvm, const host_kit::CpuidTable& cpuid, VmKind kind) {
  const auto failed = [](int32_t code) { return CounterAnswer{CounterState::not_created, code}; };
  auto vm = kvm.create_vm();
  if (!vm) return failed(vm.error());
  if (kind.cap_off) {
    kvm_enable_cap cap{};
    cap.cap = KVM_CAP_PMU_CAPABILITY;
    cap.args[0] = KVM_PMU_CAP_DISABLE;
    if (const int32_t result = (*vm)->ioctl(KVM_ENABLE_CAP, &cap); result < 0)
      return failed(result);
  }
  if (kind.irqchip)
    if (const int32_t result = (*vm)->ioctl(KVM_CREATE_IRQCHIP, nullptr); result < 0)
      return failed(result);
  auto vcpu = (*vm)->create_vcpu(0);
  if (!vcpu && vcpu.error() == -EBUSY) return {CounterState::busy, -EBUSY};
  if (!vcpu) return failed(vcpu.error());
  if (const int32_t result = set_cpuid(**vcpu, cpuid); result < 0) return failed(result);
  return ask_counter(**vcpu);
}

/// KVM_CHECK_EXTENSION on a VM, as the plugin asks; on /dev/kvm if there can be none.
int32_t check_extension(Kvm& kvm, Vm* vm, uint32_t capability) {
  return vm != nullptr ? vm->ioctl(KVM_CHECK_EXTENSION, number(capability))
                       : kvm.ioctl(KVM_CHECK_EXTENSION, number(capability));
}

}  // namespace

// The extended address is asked first: where KVM has none it refuses without a word, while it logs
// the legacy ones that it ignores.
uint32_t mark_a_counter(Vcpu& vcpu) {
  for (const uint32_t counter : {amd::kExtCtr0, amd::kPerfCtr0})
    if (set_msr(vcpu, counter, 1) && get_msr(vcpu, counter) == uint64_t{1}) return counter;
  return 0;
}

CounterAnswer ask_counter(Vcpu& vcpu) {
  const uint32_t counter = mark_a_counter(vcpu);
  if (counter == 0) return {CounterState::off, 0};
  set_msr(vcpu, counter, 0);
  return {CounterState::live, 0};
}

bool Probe::offers_cap() const {
  return pmu_capability > 0 && (pmu_capability & KVM_PMU_CAP_DISABLE) != 0;
}

bool Probe::amd() const { return vendor == "AuthenticAMD" || vendor == "HygonGenuine"; }

bool Probe::has_bugs() const {
  return with_irqchip.state == CounterState::live || with_irqchip.state == CounterState::busy;
}

uint32_t Probe::guest_counters() const {
  if (perfmonv2) return counters;
  return perfctr_core ? amd::kExtCounters : amd::kLegacyCounters;
}

tl::expected<Probe, std::string> probe_kvm(Kvm& kvm) {
  const auto cpuid = supported_cpuid(kvm);
  if (!cpuid) return tl::unexpected(cpuid.error());
  Probe p;
  p.kvm = kvm.name();
  p.host = kvm.host_info();
  p.vendor = vendor_of(*cpuid);
  p.perfctr_core = (cpuid->lookup(amd::kLeafExtFeatures, 0)[2] & amd::kPerfCtrExtCoreBit) != 0;
  const auto perfmon = cpuid->lookup(amd::kLeafExtPerfMonAndDbg, 0);
  p.perfmonv2 = (perfmon[0] & amd::kPerfMonV2Bit) != 0;
  p.counters = p.perfmonv2 ? perfmon[1] & amd::kNumPerfCtrCoreMask : 0;
  p.pmu_msrs = listed_pmu_msrs(kvm);
  {
    const auto vm = kvm.create_vm();
    Vm* const asked = vm ? vm->get() : nullptr;
    p.pmu_capability = check_extension(kvm, asked, KVM_CAP_PMU_CAPABILITY);
    p.disable_quirks2 = check_extension(kvm, asked, KVM_CAP_DISABLE_QUIRKS2);
    p.msr_filter = check_extension(kvm, asked, KVM_CAP_X86_MSR_FILTER);
  }
  p.with_irqchip = try_vm(kvm, *cpuid, {true, false});
  p.without_irqchip = try_vm(kvm, *cpuid, {false, false});
  if (p.offers_cap()) p.after_cap = try_vm(kvm, *cpuid, {true, true});
  return p;
}

// ---- in words ----------------------------------------------------------------------------------

namespace {

/// The vPMU of VMs here, in a sentence.
std::string state_sentence(const Probe& p) {
  switch (p.with_irqchip.state) {
    case CounterState::live:
      return "Guests have a vPMU here, whether or not their VMM says 'no PMU': a counter of a vCPU "
             "keeps what is written to it.";
    case CounterState::busy:
      return "VMs with a vPMU do not start here: KVM mediates the PMU and this host's own "
             "system-wide perf events hold it (KVM_CREATE_VCPU: EBUSY). Turn them off (sysctl "
             "kernel.nmi_watchdog=0; end 'perf ... -a'), or start VMs without a vPMU "
             "(pmu-cap-disabled=on).";
    case CounterState::not_created:
      return fmt::format("No vCPU could be created ({}), so the state of the vPMU is unknown.",
                         errno_name(p.with_irqchip.result));
    case CounterState::off:
      break;
  }
  if (!p.amd())
    return fmt::format(
        "This is not an AMD host ({}): KVM has none of AMD's PMU registers here. Nothing needs to "
        "be "
        "done.",
        p.vendor);
  if (p.host.enable_pmu == "N")
    return "kvm.enable_pmu is N: KVM gives no VM of this host a vPMU. Nothing needs to be done.";
  return fmt::format(
      "No counter of a vCPU keeps a value although kvm.enable_pmu is {}: KVM has no PMU to offer "
      "here. Nothing needs to be done.",
      p.host.enable_pmu);
}

}  // namespace

std::vector<std::string> verdict_of(const Probe& p) {
  std::vector<std::string> lines{state_sentence(p)};
  if (p.has_bugs()) {
    lines.emplace_back(
        "Bug 1: 'pmu=off' of a VMM that does not use KVM_CAP_PMU_CAPABILITY only changes CPUID; "
        "the guest's PMU driver still finds the registers and loads.");
    lines.emplace_back(
        "Bug 2: KVM resets no PMU register with the vCPU: after a reset the guest finds stale "
        "event selectors (\"[Firmware Bug]: the BIOS has corrupted hw-PMU resources\") and may "
        "take NMIs for unknown reasons.");
  }
  if (p.with_irqchip.state != p.without_irqchip.state &&
      p.without_irqchip.state == CounterState::off)
    lines.emplace_back(
        "A VM without in-kernel irqchip has no vPMU here: KVM mediates the PMU and then drops it "
        "silently, while it still offers the capability.");
  if (p.offers_cap() && p.after_cap.state != CounterState::off)
    lines.emplace_back(
        "KVM_PMU_CAP_DISABLE is offered and does not turn the vPMU off here: report this host.");
  return lines;
}

}  // namespace svm_pmu::tool
