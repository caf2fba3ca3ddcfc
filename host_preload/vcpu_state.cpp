// SPDX-License-Identifier: MIT
#include "host_preload/vcpu_state.hpp"

#include <algorithm>
#include <array>
#include <cstddef>

namespace host_preload {
namespace {

// sregs_event reads a struct kvm_sregs2 as well: the same up to cr0
#ifdef KVM_SREGS2_FLAGS_PDPTRS_VALID
static_assert(offsetof(kvm_sregs, cs) == offsetof(kvm_sregs2, cs) &&
              offsetof(kvm_sregs, cr0) == offsetof(kvm_sregs2, cr0));
#endif

/// State after RESET: AMD APM vol. 2, table 14-1 (CS F000, base FFFF_0000, RIP FFF0, CR0.PE 0).
/// The second base: what a VMM writes that computes base = selector << 4 (seen in StratoVirt).
constexpr uint16_t kResetSelector = 0xf000;
constexpr std::array<uint64_t, 2> kResetBases{0xffff0000, 0xf0000};
constexpr uint64_t kResetRip = 0xfff0;
constexpr uint64_t kCr0Pe = 1;

struct MsrRange {
  uint32_t first;
  uint32_t last;
};
constexpr uint32_t kPerfCntrGlobalCtl = 0xc0000301;
constexpr std::array<MsrRange, 3> kAmdPmu{{
    {0xc0000300, 0xc0000303},  // PerfCntrGlobalStatus, Ctl, StatusClr, StatusSet
    {0xc0010000, 0xc0010007},  // PerfEvtSel0-3, PerfCtr0-3 (K7)
    {0xc0010200, 0xc001020b},  // PERF_CTL0-5, PERF_CTR0-5 (family 15h)
}};

}  // namespace

VcpuEvent sregs_event(const kvm_sregs& sregs) noexcept {
  const bool at_base =
      std::find(kResetBases.begin(), kResetBases.end(), sregs.cs.base) != kResetBases.end();
  const bool reset = sregs.cs.selector == kResetSelector && at_base && (sregs.cr0 & kCr0Pe) == 0;
  return reset ? VcpuEvent::sregs_reset : VcpuEvent::sregs_other;
}

VcpuEvent regs_event(const kvm_regs& regs) noexcept {
  return regs.rip == kResetRip ? VcpuEvent::regs_reset : VcpuEvent::regs_other;
}

bool is_amd_pmu_msr(uint32_t index) noexcept {
  return std::any_of(kAmdPmu.begin(), kAmdPmu.end(), [index](const MsrRange& range) {
    return index >= range.first && index <= range.last;
  });
}

std::optional<VcpuEvent> msrs_event(std::span<const kvm_msr_entry> entries) noexcept {
  std::optional<VcpuEvent> event;
  for (const kvm_msr_entry& entry : entries) {
    if (!is_amd_pmu_msr(entry.index)) continue;
    if (entry.data != 0) return VcpuEvent::pmu_values;
    if (entry.index == kPerfCntrGlobalCtl)
      event = VcpuEvent::pmu_control_zeroed;
    else if (!event)
      event = VcpuEvent::pmu_zeroed;
  }
  return event;
}

}  // namespace host_preload
