// SPDX-License-Identifier: MIT
#include "cli/probe.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>

#include "kvm/errno_names.hpp"
#include "kvm/one_msr.hpp"
#include "stub_vmm/guest_cpuid.hpp"
#include "vmm/kvm_uapi.h"

namespace host_stub {
namespace {

constexpr uint32_t kLegacyCtr0 = 0xc0010004;  // MSRC001_0004 PerfCtr0
constexpr uint32_t kExtCtr0 = 0xc0010201;     // MSRC001_0201 PERF_CTR0

struct MsrRange {
  uint32_t base, count;
};
constexpr MsrRange kPmuMsrs[] = {{0xc0010000, 8}, {0xc0010200, 12}, {0xc0000300, 4}};

void* number(uintptr_t value) { return reinterpret_cast<void*>(value); }

std::string vendor_of(const CpuidResult& leaf) {
  std::string vendor;
  for (const uint32_t word : {leaf.ebx, leaf.edx, leaf.ecx})
    for (int shift = 0; shift < 32; shift += 8) vendor += static_cast<char>(word >> shift & 0xff);
  return vendor;
}

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

/// Whether a counter keeps a value, and leaves 0 in it. Without its selector it starts nothing. The
/// extended address is asked first: where KVM has none it refuses without a word, while it logs the
/// legacy ones that it ignores.
bool keeps_a_value(Vcpu& vcpu) {
  for (const uint32_t counter : {kExtCtr0, kLegacyCtr0}) {
    if (!set_msr(vcpu, counter, 1)) continue;
    const auto value = get_msr(vcpu, counter);
    set_msr(vcpu, counter, 0);
    if (value == uint64_t{1}) return true;
  }
  return false;
}

struct VmKind {
  bool irqchip, cap_off;
};

VpmuAnswer try_vpmu(Kvm& kvm, const GuestCpuidTable& cpuid, VmKind kind) {
  const auto failed = [](int32_t code) { return VpmuAnswer{Vpmu::not_created, code}; };
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
  if (!vcpu && vcpu.error() == -EBUSY) return {Vpmu::busy, -EBUSY};
  if (!vcpu) return failed(vcpu.error());
  if (const int32_t result = cpuid.apply(**vcpu); result < 0) return failed(result);
  return {keeps_a_value(**vcpu) ? Vpmu::live : Vpmu::off, 0};
}

/// Whether a deny filter over the PMU registers is accepted.
int32_t try_filter(Kvm& kvm) {
  static uint64_t deny_all = 0;  // KVM only reads it
  auto vm = kvm.create_vm();
  if (!vm) return vm.error();
  kvm_msr_filter filter{};
  filter.flags = KVM_MSR_FILTER_DEFAULT_ALLOW;
  for (std::size_t i = 0; i < std::size(kPmuMsrs); ++i)
    filter.ranges[i] = {KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, kPmuMsrs[i].count,
                        kPmuMsrs[i].base, reinterpret_cast<uint8_t*>(&deny_all)};
  return (*vm)->ioctl(KVM_X86_SET_MSR_FILTER, &filter);
}

/// KVM_CHECK_EXTENSION on a VM, as the plugin asks; on /dev/kvm if there can be none.
int32_t check_extension(Kvm& kvm, Vm* vm, uint32_t capability) {
  return vm != nullptr ? vm->ioctl(KVM_CHECK_EXTENSION, number(capability))
                       : kvm.ioctl(KVM_CHECK_EXTENSION, number(capability));
}

}  // namespace

bool Probe::offers_cap() const {
  return pmu_capability > 0 && (pmu_capability & KVM_PMU_CAP_DISABLE) != 0;
}

bool Probe::amd() const { return vendor == "AuthenticAMD" || vendor == "HygonGenuine"; }

bool Probe::has_bugs() const {
  return with_irqchip.vpmu == Vpmu::live || with_irqchip.vpmu == Vpmu::busy;
}

OffOutcome Probe::outcome(const PluginSetting& setting) const {
  if (!setting.off) return OffOutcome::not_asked;
  if (setting.may_use_cap && offers_cap()) return OffOutcome::off_by_cap;
  // KVM knows the capability (KVM_CAP_DISABLE_QUIRKS2 came right after it, Linux 5.18) and has
  // nothing to offer: kvm.enable_pmu=N
  if (setting.may_use_cap && disable_quirks2 > 0) return OffOutcome::already_off;
  if (setting.may_use_filter && msr_filter > 0 && set_filter_result >= 0)
    return OffOutcome::filtered;
  return OffOutcome::not_possible;
}

tl::expected<Probe, std::string> probe_kvm(Kvm& kvm) {
  const auto cpuid = GuestCpuidTable::make(kvm, {});
  if (!cpuid) return tl::unexpected(cpuid.error());
  Probe p;
  p.kvm = kvm.name();
  p.host = kvm.host_info();
  p.vendor = vendor_of(cpuid->lookup(0, 0));
  p.perfctr_core = (cpuid->lookup(0x80000001, 0).ecx >> 23 & 1) != 0;
  const CpuidResult perfmon = cpuid->lookup(0x80000022, 0);
  p.perfmonv2 = (perfmon.eax & 1) != 0;
  p.counters = p.perfmonv2 ? perfmon.ebx & 0xf : 0;
  p.pmu_msrs = listed_pmu_msrs(kvm);
  {
    const auto vm = kvm.create_vm();
    Vm* const asked = vm ? vm->get() : nullptr;
    p.pmu_capability = check_extension(kvm, asked, KVM_CAP_PMU_CAPABILITY);
    p.disable_quirks2 = check_extension(kvm, asked, KVM_CAP_DISABLE_QUIRKS2);
    p.msr_filter = check_extension(kvm, asked, KVM_CAP_X86_MSR_FILTER);
  }
  p.with_irqchip = try_vpmu(kvm, *cpuid, {true, false});
  p.without_irqchip = try_vpmu(kvm, *cpuid, {false, false});
  if (p.offers_cap()) p.after_cap = try_vpmu(kvm, *cpuid, {true, true});
  if (p.msr_filter > 0) p.set_filter_result = try_filter(kvm);
  return p;
}

// ---- in words ----------------------------------------------------------------------------------

namespace {

/// The vPMU of VMs here, in a sentence.
std::string state_sentence(const Probe& p) {
  switch (p.with_irqchip.vpmu) {
    case Vpmu::live:
      return "Guests have a vPMU here, whether or not their VMM says 'no PMU': a counter of a vCPU "
             "keeps what is written to it.";
    case Vpmu::busy:
      return "VMs with a vPMU do not start here: KVM mediates the PMU and this host's own "
             "system-wide perf events hold it (KVM_CREATE_VCPU: EBUSY). Turn them off (sysctl "
             "kernel.nmi_watchdog=0; end 'perf ... -a'), or make VMs without vPMU "
             "(pmu-cap-disabled=on).";
    case Vpmu::not_created:
      return fmt::format("No vCPU could be made to ask ({}): nothing can be said.",
                         errno_name(-p.with_irqchip.result));
    case Vpmu::off:
      break;
  }
  if (!p.amd())
    return fmt::format(
        "This is no AMD host ({}): KVM has none of AMD's PMU registers here. Nothing "
        "needs to be done.",
        p.vendor);
  if (p.host.enable_pmu == "N")
    return "kvm.enable_pmu is N: KVM gives no VM of this host a vPMU. Nothing needs to be done.";
  return fmt::format(
      "No counter of a vCPU keeps a value although kvm.enable_pmu is {}: KVM has no "
      "PMU to give here. Nothing needs to be done.",
      p.host.enable_pmu);
}

/// By OffOutcome.
constexpr std::array<const char*, 5> kOutcomeSentences{{
    "",
    "no vPMU, by KVM_CAP_PMU_CAPABILITY; nothing is left to reset",
    "nothing: the vPMU is off already, and the log says so",
    "the guest's RDMSR and WRMSR of PMU registers take #GP, by an MSR filter; RDPMC does not; ",
    "cannot be done here: a warning, or with strict=on an error and no VM; else ",
}};

/// What becomes of registers that are not turned off by capability; by Vpmu.
constexpr std::array<const char*, 4> kRegisterSentences{{
    "the registers are reset with each vCPU, and named for save and restore",
    "there is no vPMU and nothing to reset",
    "VMs do not start while the host's perf events hold the PMU; then the registers are reset",
    "nothing can be said of the registers",
}};

}  // namespace

std::vector<std::string> verdict_of(const Probe& p) {
  std::vector<std::string> lines{state_sentence(p)};
  if (p.has_bugs()) {
    lines.emplace_back(
        "Bug 1: 'pmu=off' of a VMM that does not use KVM_CAP_PMU_CAPABILITY only changes CPUID; "
        "the "
        "guest's PMU driver still finds the registers and loads.");
    lines.emplace_back(
        "Bug 2: KVM resets no PMU register with the vCPU: after a reset the guest finds stale "
        "event "
        "selectors (\"[Firmware Bug]: the BIOS has corrupted hw-PMU resources\") and may take NMIs "
        "for unknown reasons.");
  }
  if (p.with_irqchip.vpmu != p.without_irqchip.vpmu && p.without_irqchip.vpmu == Vpmu::off)
    lines.emplace_back(
        "A VM without in-kernel irqchip has no vPMU here: KVM mediates the PMU and drops it then, "
        "without a word and with the capability still offered.");
  if (p.offers_cap() && p.after_cap.vpmu != Vpmu::off)
    lines.emplace_back(
        "KVM_PMU_CAP_DISABLE is offered and does not turn the vPMU off here: report this host.");
  return lines;
}

std::string plan_of(const Probe& p, const PluginSetting& setting) {
  const OffOutcome outcome = p.outcome(setting);
  std::string text = kOutcomeSentences[static_cast<std::size_t>(outcome)];
  if (outcome != OffOutcome::off_by_cap && outcome != OffOutcome::already_off)
    text += kRegisterSentences[static_cast<std::size_t>(p.with_irqchip.vpmu)];
  return text;
}

}  // namespace host_stub
