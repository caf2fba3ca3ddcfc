// SPDX-License-Identifier: MIT
//
// What a host's KVM has of AMD's PMU and which of the two bugs its guests have. Decided by what
// registers of a vCPU keep, never by a version. VMs are made and closed; nothing of the host
// changes, but that KVM may log one "Unhandled WRMSR" where a vPMU is off
// (kvm.report_ignored_msrs).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <tl/expected.hpp>
#include <vector>

#include "tool/cpuid.hpp"
#include "tool/kvm.hpp"

namespace svm_pmu::tool {

/// A VM's vPMU, by what a counter of its vCPU does.
enum class CounterState : uint8_t {
  live,         ///< keeps what is written
  off,          ///< does not
  busy,         ///< KVM_CREATE_VCPU: EBUSY, the host's own perf events hold the PMU
  not_created,  ///< no such VM or vCPU could be made: see the errno
};

struct CounterAnswer {
  CounterState state = CounterState::not_created;
  int32_t result = 0;  ///< of what failed: -errno
};

struct Probe {
  std::string kvm;  ///< its name
  HostInfo host;
  std::string vendor;          ///< of CPUID leaf 0, "AuthenticAMD"
  int32_t pmu_capability = 0;  ///< KVM_CHECK_EXTENSION: value or -errno; so the next two
  int32_t disable_quirks2 = 0;
  int32_t msr_filter = 0;
  std::vector<uint32_t> pmu_msrs;  ///< AMD's in KVM_GET_MSR_INDEX_LIST
  bool perfctr_core = false;       ///< PerfCtrExtCore in KVM_GET_SUPPORTED_CPUID
  bool perfmonv2 = false;
  uint32_t counters = 0;          ///< EBX[3:0] of 0x80000022; 0 without PerfMonV2
  CounterAnswer with_irqchip;     ///< a VM as VMMs make them
  CounterAnswer without_irqchip;  ///< of which a mediating KVM drops the vPMU
  CounterAnswer after_cap;        ///< with KVM_PMU_CAP_DISABLE, where it is offered

  bool offers_cap() const;
  bool amd() const;  ///< AMD or Hygon

  /// Guests get a vPMU that nobody turned off, and nobody resets.
  bool has_bugs() const;

  /// How many counters a guest finds: 4, 6, or what PerfMonV2 says.
  uint32_t guest_counters() const;
};

/// Error: KVM does not answer what every KVM does.
tl::expected<Probe, std::string> probe_kvm(Kvm& kvm);

/// The verdict: a few sentences for people.
std::vector<std::string> verdict_of(const Probe& probe);

/// Whether a counter keeps a value; leaves 0 in it. Starts nothing.
CounterAnswer ask_counter(Vcpu& vcpu);

/// Writes 1 to a counter that keeps it and returns its address; 0: there is none.
uint32_t mark_a_counter(Vcpu& vcpu);

/// What no plugin of a VMM can fix, whatever the host.
inline constexpr std::array<const char*, 4> kLimits{{
    "a guest's own kexec, and its kdump kernel, start without the VMM: no reset passes through it, "
    "and the new kernel finds the event selectors of the old one",
    "a deny filter covers RDMSR and WRMSR, not RDPMC: a guest may still read counters, but nothing "
    "of its own can start them",
    "with a mediated vPMU the host gives its PMU to the guest while the guest runs: the host's own "
    "perf does not see guests, unless they have no vPMU",
    "the state of the PMU does not migrate under vmm-run: the VMM's saved state has no place for "
    "it. After a migration the registers are 0, and a guest that was counting starts its counters "
    "again at its next use",
}};

}  // namespace svm_pmu::tool
