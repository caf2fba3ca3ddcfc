// SPDX-License-Identifier: MIT
#include "matrix/matrix_expectation.hpp"

#include <algorithm>
#include <iterator>
#include <stdexcept>
#include <string>

namespace host_stub::matrix {
namespace {

/// What a guest CPUID with PerfMonV2 gets from KVM.
enum class PerfMonV2 : uint8_t {
  unknown,  ///< before 6.5 KVM does not know it
  claimed,  ///< recorded (6.12), read (6.6): who claims it has it, whatever the host's CPU
  of_host,  ///< recorded (7.2): only where the host has it; 6.18 inferred
};

/// What is known of a kernel's KVM. Sources: recorded answers in tests/data/kvm_facts, and the
/// commits that are named.
struct KernelFacts {
  std::string_view name;
  bool has_filter;      ///< KVM_CAP_X86_MSR_FILTER: 5.10
  bool has_parameter;   ///< kvm.enable_pmu: 4732f2444acd, 5.17
  bool has_capability;  ///< KVM_CAP_PMU_CAPABILITY: ba7bb663f554, 5.18
  bool has_mediated;    ///< kvm_amd.enable_mediated_pmu: 7.0
  PerfMonV2 v2;
  bool keeps_global;  ///< PerfMonV2's registers stay while the vPMU is off: before f933b88e2015
};
constexpr KernelFacts kKernels[] = {
    {"linux-5.4", false, false, false, false, PerfMonV2::unknown, false},
    {"linux-5.10", true, false, false, false, PerfMonV2::unknown, false},
    {"linux-5.15", true, false, false, false, PerfMonV2::unknown, false},
    {"linux-6.1", true, true, true, false, PerfMonV2::unknown, false},
    {"linux-6.6", true, true, true, false, PerfMonV2::claimed, true},
    {"linux-6.6.y", true, true, true, false, PerfMonV2::claimed, false},
    {"linux-6.12", true, true, true, false, PerfMonV2::claimed, false},
    {"linux-6.18", true, true, true, false, PerfMonV2::of_host, false},
    {"linux-7.2", true, true, true, true, PerfMonV2::of_host, false},
};

const KernelFacts& facts_of(const Case& row) {
  const auto* const found = std::ranges::find(kKernels, row.kernel, &KernelFacts::name);
  if (found == std::end(kKernels))
    throw std::invalid_argument("kKernels of matrix_expectation.cpp has no row for " +
                                std::string(row.kernel));
  return *found;
}

bool mediated(const Case& row) {
  return row.variant == HostVariant::mediated || row.variant == HostVariant::mediated_no_irqchip ||
         row.variant == HostVariant::mediated_busy;
}

bool host_has_v2(const Case& row) { return row.variant == HostVariant::perfmonv2 || mediated(row); }

const char* why_impossible(const Case& row) {
  const KernelFacts& kernel = facts_of(row);
  if (!row.enable_pmu && !kernel.has_parameter)
    return "kvm.enable_pmu came in Linux 5.17: before, the vPMU is always on";
  if (mediated(row) && !kernel.has_mediated) return "the mediated vPMU came in Linux 7.0";
  if (host_has_v2(row) && row.vendor == VendorPair::intel_host_amd_guest)
    return "PerfMonV2, and mediation by it, is of AMD's CPUs: an Intel host has none";
  return nullptr;
}

/// KVM_CHECK_EXTENSION(KVM_CAP_PMU_CAPABILITY): 0 with enable_pmu=N too (recorded).
bool offers_capability(const Case& row) { return facts_of(row).has_capability && row.enable_pmu; }

/// A deny filter over AMD's registers: where KVM has filters.
bool can_filter(const Case& row) { return facts_of(row).has_filter; }

/// Another vendor's vPMU is not the plugin's.
bool is_foreign(const Case& row) { return row.vendor == VendorPair::intel_host_amd_guest; }

/// The guest as it is once the CPUID bits of a PMU are hidden from it: where the plugin switched
/// the vPMU off, unless it is to keep them; where it was off before, only if it is to hide them.
Case hidden_from(const Case& row, Decision decision) {
  const bool by_plugin = decision == Decision::off_by_cap || decision == Decision::filtered;
  const bool hidden = row.cpuid == PmuCpuid::hide ? by_plugin || decision == Decision::already_off
                                                  : row.cpuid == PmuCpuid::automatic && by_plugin;
  Case seen = row;
  if (hidden) seen.guest = GuestPmu::plain;
  return seen;
}

/// Whether nobody asks for a vPMU that is off.
bool stays_on(PmuOff off) {
  return off == PmuOff::no_plugin || off == PmuOff::off || off == PmuOff::vmm_said_on ||
         off == PmuOff::vmm_said_nothing;
}

/// "auto" takes the capability; where KVM has none to give because it is off already, nothing is
/// left to do; an older kernel gets the filter. A chosen method is that one or none.
Decision decide(const Case& row) {
  if (stays_on(row.off)) return Decision::nothing;
  // who follows the VMM's word asked for nothing on another vendor's host
  if (is_foreign(row))
    return row.off == PmuOff::vmm_said_off ? Decision::nothing : Decision::not_possible;
  if (row.off != PmuOff::msr_filter) {
    if (offers_capability(row)) return Decision::off_by_cap;
    if (facts_of(row).has_capability) return Decision::already_off;
  }
  if (row.off != PmuOff::cap && can_filter(row)) return Decision::filtered;
  return Decision::not_possible;
}

Start start_of(const Case& row, Decision decision) {
  if (decision == Decision::not_possible && row.strict) return Start::refused;
  // KVM takes the PMU at the first KVM_CREATE_VCPU; a VM without vPMU needs none
  const bool wants_pmu = row.enable_pmu && decision != Decision::off_by_cap;
  if (row.variant == HostVariant::mediated_busy && wants_pmu) return Start::busy;
  return Start::runs;
}

/// Whether the VM's registers hold what is written. Without an in-kernel irqchip a mediating KVM
/// drops the vPMU and tells nobody (recorded).
bool is_live(const Case& row, Decision decision) {
  return row.enable_pmu && decision != Decision::off_by_cap &&
         row.vendor != VendorPair::intel_host_amd_guest &&
         row.variant != HostVariant::mediated_no_irqchip;
}

/// Whether KVM gives this guest the PerfMonV2 that its CPUID claims.
bool has_v2(const Case& row) {
  if (row.guest != GuestPmu::v2) return false;
  const PerfMonV2 v2 = facts_of(row).v2;
  return v2 == PerfMonV2::claimed || (v2 == PerfMonV2::of_host && host_has_v2(row));
}

constexpr uint32_t kLegacyCounters = 4, kExtCounters = 6;  // KVM has at most 6

uint32_t counters_of(const Case& row) {
  if (row.guest == GuestPmu::plain) return kLegacyCounters;
  return has_v2(row) ? std::min<uint32_t>(row.claimed, kExtCounters) : kExtCounters;
}

/// Linux gives up on a PMU without counters, or with more selectors than can be read.
BootLine boot_line(const Case& row, const Expectation& e) {
  if (row.vendor == VendorPair::amd_host_intel_guest) return BootLine::no_driver;
  const bool sane = row.guest != GuestPmu::v2 || (row.claimed > 0 && row.claimed <= kExtCounters);
  return e.live && e.decision != Decision::filtered && sane ? BootLine::driver
                                                            : BootLine::not_available;
}

/// 2 ioctls where the capability is there and wanted, else at most 4; none if nothing is asked for.
uint32_t most_ioctls(Decision decision) {
  if (decision == Decision::nothing) return 0;
  return decision == Decision::off_by_cap ? 2 : 4;
}

/// One call where there is something to reset; none where the plugin knows that there is not; where
/// only the registers' answers tell, at most one.
Range set_msrs(const Case& row, const Expectation& e) {
  const bool nothing = !row.has_plugin() || e.decision == Decision::off_by_cap ||
                       row.vendor == VendorPair::amd_host_intel_guest || is_foreign(row);
  if (nothing) return {0, 0};
  // a host skips what is refused and goes on behind it, with as many calls as that takes
  constexpr uint32_t kMostRegisters = 15;
  if (row.batch) return {1, 1 + kMostRegisters};
  return e.live ? Range{1, 1} : Range{0, 1};
}

/// Nothing to say without refusals. A PerfMonV2 that KVM does not give is to be said, as long as
/// there is a PMU at all.
Range refused_lines(const Case& row, const Expectation& e) {
  if (e.set_msrs.most == 0 || row.batch) return {0, 0};  // a batch is the host's to write
  const bool missing_v2 = row.guest == GuestPmu::v2 && !has_v2(row);
  if (e.live && missing_v2) return {1, 1};
  const bool all_there = e.live && row.guest != GuestPmu::v2;
  return all_there ? Range{0, 0} : Range{0, 1};
}

/// A fallback that covers less than what was asked for, and what could not be done, are worth a
/// warning; a guest without vPMU that knows of none is not. A CPUID that claims what KVM lacks may.
Warning warning(const Case& row, const Expectation& e) {
  if (e.decision == Decision::not_possible) return Warning::must;
  if (e.decision == Decision::filtered && row.off != PmuOff::msr_filter) return Warning::must;
  return row.guest == GuestPmu::v2 && e.refused_lines.most > 0 ? Warning::may : Warning::never;
}

}  // namespace

Expectation expectation_of(const Case& asked) {
  Expectation e;
  e.impossible = why_impossible(asked);
  if (e.impossible != nullptr) return e;
  e.decision = decide(asked);
  const Case row = hidden_from(asked, e.decision);
  e.start = start_of(row, e.decision);
  e.most_vm_created_ioctls = most_ioctls(e.decision);
  e.live = is_live(row, e.decision);
  if (e.live) {
    e.live_counters = counters_of(row);
    // as after RESET: all bits set, so that software which knows no PerfMonV2 counts
    if (has_v2(row)) e.global_ctl = (uint64_t{1} << e.live_counters) - 1;
  }
  e.global_is_dead = !e.live && has_v2(row) && facts_of(row).keeps_global;
  e.boot = boot_line(row, e);
  e.firmware_bug = !row.has_plugin() && e.boot == BootLine::driver;
  e.set_msrs = set_msrs(row, e);
  e.refused_lines = refused_lines(row, e);
  e.warning = warning(row, e);
  return e;
}

}  // namespace host_stub::matrix
