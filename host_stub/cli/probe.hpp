// SPDX-License-Identifier: MIT
//
// What a host's KVM has of AMD's PMU, which of the two bugs its guests have, and what the plugin
// would do here. Decided by what registers of a vCPU keep, never by a version. VMs are made and
// closed; nothing of the host changes, but that KVM may log one "Unhandled WRMSR" where a vPMU is
// off (kvm.report_ignored_msrs).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <tl/expected.hpp>
#include <vector>

#include "kvm/kvm.hpp"

namespace host_stub {

/// A VM's vPMU, by what a counter of its vCPU does.
enum class Vpmu : uint8_t {
  live,         ///< keeps what is written
  off,          ///< does not
  busy,         ///< KVM_CREATE_VCPU: EBUSY, the host's own perf events hold the PMU
  not_created,  ///< no such VM or vCPU could be made: see the errno
};

struct VpmuAnswer {
  Vpmu vpmu = Vpmu::not_created;
  int32_t result = 0;  ///< of what failed: -errno
};

/// What pmu-cap-disabled and pmu-off-method come to.
enum class OffOutcome : uint8_t { not_asked, off_by_cap, already_off, filtered, not_possible };

/// A setting of the plugin.
struct PluginSetting {
  const char* options;
  bool off, may_use_cap, may_use_filter;
};
inline constexpr std::array<PluginSetting, 4> kPluginSettings{{
    {"pmu-cap-disabled=off", false, false, false},
    {"pmu-cap-disabled=on,pmu-off-method=auto", true, true, true},
    {"pmu-cap-disabled=on,pmu-off-method=cap", true, true, false},
    {"pmu-cap-disabled=on,pmu-off-method=msr-filter", true, false, true},
}};

struct Probe {
  std::string kvm;  ///< spec
  HostInfo host;
  std::string vendor;          ///< of CPUID leaf 0, "AuthenticAMD"
  int32_t pmu_capability = 0;  ///< KVM_CHECK_EXTENSION: value or -errno; so the next two
  int32_t disable_quirks2 = 0;
  int32_t msr_filter = 0;
  std::vector<uint32_t> pmu_msrs;  ///< AMD's in KVM_GET_MSR_INDEX_LIST
  bool perfctr_core = false;       ///< PerfCtrExtCore in KVM_GET_SUPPORTED_CPUID
  bool perfmonv2 = false;
  uint32_t counters = 0;          ///< EBX[3:0] of 0x80000022; 0 without PerfMonV2
  VpmuAnswer with_irqchip;        ///< a VM as VMMs make them
  VpmuAnswer without_irqchip;     ///< of which a mediating KVM drops the vPMU
  VpmuAnswer after_cap;           ///< with KVM_PMU_CAP_DISABLE, where it is offered
  int32_t set_filter_result = 0;  ///< of KVM_X86_SET_MSR_FILTER, where it is offered

  bool offers_cap() const;
  bool amd() const;       ///< AMD or Hygon
  bool has_bugs() const;  ///< guests get a vPMU that nobody turned off, and nobody resets
  OffOutcome outcome(const PluginSetting& setting) const;
};

/// Error: KVM does not answer what every KVM does.
tl::expected<Probe, std::string> probe_kvm(Kvm& kvm);

/// The verdict: a few sentences for people.
std::vector<std::string> verdict_of(const Probe& probe);

/// What the plugin would do, in a sentence.
std::string plan_of(const Probe& probe, const PluginSetting& setting);

/// What no plugin of a VMM can fix, whatever the host.
inline constexpr std::array<const char*, 3> kLimits{{
    "a guest's own kexec, and its kdump kernel, start without the VMM: no reset passes through it, "
    "and the new kernel finds the old one's event selectors",
    "a deny filter covers RDMSR and WRMSR, not RDPMC: a guest may still read counters, which "
    "nothing "
    "of its own can start",
    "with a mediated vPMU the host gives its PMU to the guest while it runs: the host's own perf "
    "does "
    "not see guests, unless they have no vPMU",
}};

}  // namespace host_stub
