// SPDX-License-Identifier: MIT
#include "host_preload/vcpu_state.hpp"

#include <vmm/kvm_uapi.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>

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

std::optional<VcpuEvent> vcpu_event(const KvmCall& call) noexcept {
  switch (call.number) {
    case number_of(KVM_SET_SREGS):
    case kSetSregs2:
      return sregs_event(*static_cast<const kvm_sregs*>(call.arg));
    case number_of(KVM_SET_REGS):
      return regs_event(*static_cast<const kvm_regs*>(call.arg));
    case number_of(KVM_SET_MP_STATE):
      return VcpuEvent::mp_state;
    case VMM_KVM_SET_MSRS: {
      // KVM says how many it took
      const auto* entries = reinterpret_cast<const kvm_msr_entry*>(
          static_cast<const char*>(call.arg) + sizeof(vmm_kvm_msrs_header));
      return msrs_event({entries, static_cast<std::size_t>(call.result)});
    }
    default:
      return std::nullopt;
  }
}

std::span<kvm_cpuid_entry2> cpuid_entries(void* arg) noexcept {
  vmm_kvm_cpuid2_header header;
  std::memcpy(&header, arg, sizeof header);
  auto* entries = reinterpret_cast<kvm_cpuid_entry2*>(static_cast<char*>(arg) + sizeof header);
  return {entries, header.nent};
}

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
