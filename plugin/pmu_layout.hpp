// SPDX-License-Identifier: MIT
//
// Which PMU registers a guest has, and in which order they are written: the guest's CPUID in, a
// constant table of writes out. Everything here is data made at compile time; nothing allocates.
#pragma once

#include <vmm/plugin.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "amd_pmu.hpp"
#include "host.hpp"

namespace svm_pmu {

/// The address range of a guest's selectors and counters.
enum class Bank : uint8_t {
  none,  ///< not an AMD or Hygon guest: no register of ours
  /// c0010000-7: 4 counters. Counters 4 and 5 are written at their extended addresses, too: KVM of
  /// Linux 5.10 serves them whatever the guest's CPUID says; others take a 0 or refuse.
  legacy,
  extended,  ///< c0010200-b: PerfCtrExtCore, 6 counters
  /// The guest's CPUID is not known. Counters 0-3 at their legacy addresses, which KVM has with and
  /// without PerfCtrExtCore, 4 and 5 at the extended ones: every counter that there can be, once.
  unknown,
};

/// The registers of one kind of guest.
struct Layout {
  Bank bank = Bank::none;
  uint8_t counters = 0;         ///< selectors and counters that a reset writes
  uint8_t guest_counters = 0;   ///< those that the guest's CPUID promises, to save and restore
  bool has_global = false;      ///< PerfMonV2: GLOBAL_CTL and GLOBAL_STATUS
  uint8_t global_counters = 0;  ///< n: bits that exist in the global registers

  constexpr bool operator==(const Layout&) const = default;

  constexpr bool is_legacy(uint32_t i) const noexcept {
    return bank != Bank::extended && i < amd::kLegacyCounters;
  }
  constexpr uint32_t selector(uint32_t i) const noexcept {
    return is_legacy(i) ? amd::kPerfEvtSel0 + i : amd::kPerfCtl0 + 2 * i;
  }
  constexpr uint32_t counter(uint32_t i) const noexcept {
    return is_legacy(i) ? amd::kPerfCtr0 + i : amd::kExtCtr0 + 2 * i;
  }
  /// GLOBAL_CTL after RESET: all n enable bits, so that software that knows only version 1 counts
  /// (APM vol. 2, PerfCntrGlobalCtl; KVM sets the same at KVM_SET_CPUID2, Linux 6.9). Not 0.
  constexpr uint64_t global_mask() const noexcept { return (uint64_t{1} << global_counters) - 1; }
  /// Whether a selector or counter lies beyond what the guest's CPUID promises, the bank or the n
  /// of PerfMonV2: it is there or not, as this KVM reads CPUID.
  constexpr bool is_beyond_cpuid(uint32_t index) const noexcept;
};

/// Every layout there is. A vCPU's layout is an index into it.
inline constexpr std::size_t kLayoutCount = 16;
using LayoutId = uint8_t;
inline constexpr LayoutId kNoPmu = 0;
inline constexpr LayoutId kUnknown = kLayoutCount - 1;

constexpr std::array<Layout, kLayoutCount> make_layouts() noexcept {
  std::array<Layout, kLayoutCount> all{};
  std::size_t next = 0;
  constexpr uint8_t kFour = amd::kLegacyCounters, kSix = amd::kExtCounters;
  all[next++] = {Bank::none, 0, 0, false, 0};
  all[next++] = {Bank::legacy, kSix, kFour, false, 0};
  // Fewer counters in the leaf than the bank has: one KVM has only those, another ignores the leaf
  // and has them all (before 6.5; later where the host lacks PerfMonV2), and a guest that does not
  // know PerfMonV2 uses them. All are written, and those that are not there refuse.
  for (uint8_t n = 0; n <= amd::kLegacyCounters; ++n)
    all[next++] = {Bank::legacy, kSix, kFour, true, n};
  all[next++] = {Bank::extended, kSix, kSix, false, 0};
  for (uint8_t n = 0; n <= amd::kExtCounters; ++n)
    all[next++] = {Bank::extended, kSix, kSix, true, n};
  all[next++] = {Bank::unknown, kSix, kSix, true, kSix};
  return all;
}
inline constexpr std::array<Layout, kLayoutCount> kLayouts = make_layouts();
static_assert(kLayouts[kUnknown].bank == Bank::unknown);

/// A constant list of MSR writes.
template <std::size_t Capacity>
struct MsrWrites {
  std::array<vmm_msr, Capacity> entries{};
  uint32_t count = 0;

  constexpr void add(uint32_t index, uint64_t value, uint32_t flags = 0) noexcept {
    entries[count++] = {index, flags, value};
  }
  constexpr std::span<const vmm_msr> view() const noexcept { return {entries.data(), count}; }
};

/// GLOBAL_CTL twice, GLOBAL_STATUS, six selectors, six counters.
inline constexpr std::size_t kMaxResetWrites = 15;
using ResetPlan = MsrWrites<kMaxResetWrites>;

/// Stops everything and zeroes it: GLOBAL_CTL = 0, selectors = 0, counters = 0, GLOBAL_STATUS = 0.
/// GLOBAL_CTL first, so that nothing counts or overflows while the rest is written.
template <std::size_t Capacity>
constexpr void add_stop(MsrWrites<Capacity>& writes, const Layout& layout) noexcept {
  if (layout.has_global) writes.add(amd::kGlobalCtl, 0);
  for (uint32_t i = 0; i < layout.counters; ++i) writes.add(layout.selector(i), 0);
  for (uint32_t i = 0; i < layout.counters; ++i) writes.add(layout.counter(i), 0);
  if (layout.has_global) writes.add(amd::kGlobalStatus, 0);
}

/// What a reset writes, in its order: the stop, then GLOBAL_CTL as after RESET.
constexpr ResetPlan make_reset_plan(const Layout& layout) noexcept {
  ResetPlan plan;
  add_stop(plan, layout);
  if (layout.has_global) plan.add(amd::kGlobalCtl, layout.global_mask());
  return plan;
}

constexpr std::array<ResetPlan, kLayoutCount> make_reset_plans() noexcept {
  std::array<ResetPlan, kLayoutCount> plans{};
  for (std::size_t i = 0; i < kLayoutCount; ++i) plans[i] = make_reset_plan(kLayouts[i]);
  return plans;
}
inline constexpr std::array<ResetPlan, kLayoutCount> kResetPlans = make_reset_plans();

/// The layout of a guest, from its CPUID as the host tells it: kUnknown where it does not.
/// `vcpu` may be nullptr: the CPUID of the VM's vCPUs. S2.
LayoutId find_layout(const Host& host, vmm_vm_handle vm, vmm_vcpu_handle vcpu) noexcept;

/// Whether the vendor of this CPUID leaf 0 has AMD's PMU registers: AMD and Hygon.
bool has_amd_pmu(const CpuidRegisters& leaf0) noexcept;

/// A position 0..23 for each MSR of any layout, for a set of them in one word.
constexpr uint32_t msr_position(uint32_t index) noexcept {
  if (index >= amd::kPerfCtl0 && index < amd::kPerfCtl0 + 2 * amd::kExtCounters)
    return 8 + (index - amd::kPerfCtl0);
  if (index >= amd::kGlobalStatus && index < amd::kGlobalStatus + amd::kGlobalRegisters)
    return 20 + (index - amd::kGlobalStatus);
  return index - amd::kPerfEvtSel0;
}
constexpr uint32_t msr_bit(uint32_t index) noexcept { return uint32_t{1} << msr_position(index); }

/// Whether an MSR of a layout is an event selector.
constexpr bool is_selector(uint32_t index) noexcept {
  const uint32_t position = msr_position(index);
  return position < amd::kLegacyCounters || (position >= 8 && position < 20 && position % 2 == 0);
}

constexpr bool Layout::is_beyond_cpuid(uint32_t index) const noexcept {
  const uint32_t position = msr_position(index);
  if (bank == Bank::legacy && position >= 8 && position < 20) return true;
  if (!has_global || position >= 20) return false;
  const uint32_t number = position < 8 ? position % amd::kLegacyCounters : (position - 8) / 2;
  return number >= global_counters;
}

}  // namespace svm_pmu
