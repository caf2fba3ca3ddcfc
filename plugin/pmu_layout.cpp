// SPDX-License-Identifier: MIT
#include "pmu_layout.hpp"

#include <algorithm>

namespace svm_pmu {
namespace {

struct Vendor {
  uint32_t ebx, edx, ecx;
};
constexpr Vendor kVendorsWithAmdPmu[] = {
    {0x68747541, 0x69746e65, 0x444d4163},  // "AuthenticAMD"
    {0x6f677948, 0x6e65476e, 0x656e6975},  // "HygonGenuine"
};

LayoutId id_of(const Layout& layout) noexcept {
  const auto* found = std::find(kLayouts.begin(), kLayouts.end(), layout);
  return found == kLayouts.end() ? kUnknown : static_cast<LayoutId>(found - kLayouts.begin());
}

}  // namespace

bool has_amd_pmu(const CpuidRegisters& leaf0) noexcept {
  return std::any_of(
      std::begin(kVendorsWithAmdPmu), std::end(kVendorsWithAmdPmu), [&](const Vendor& vendor) {
        return vendor.ebx == leaf0.ebx && vendor.edx == leaf0.edx && vendor.ecx == leaf0.ecx;
      });
}

LayoutId find_layout(const Host& host, vmm_vm_handle vm, vmm_vcpu_handle vcpu) noexcept {
  const auto vendor = host.cpuid(vm, vcpu, amd::kLeafVendor);
  if (!vendor) return kUnknown;
  if (!has_amd_pmu(*vendor)) return kNoPmu;
  const auto features = host.cpuid(vm, vcpu, amd::kLeafExtFeatures);
  const auto perfmon = host.cpuid(vm, vcpu, amd::kLeafExtPerfMonAndDbg);
  if (!features || !perfmon) return kUnknown;

  // As KVM reads it (amd_pmu_refresh): the leaf counts whether or not 0x80000000 reaches it.
  const bool extended = (features->ecx & amd::kPerfCtrExtCoreBit) != 0;
  const uint32_t most = extended ? amd::kExtCounters : amd::kLegacyCounters;
  Layout layout{extended ? Bank::extended : Bank::legacy, amd::kExtCounters,
                static_cast<uint8_t>(most), false, 0};
  if ((perfmon->eax & amd::kPerfMonV2Bit) != 0) {
    const auto n = static_cast<uint8_t>(std::min(perfmon->ebx & amd::kNumPerfCtrCoreMask, most));
    layout.has_global = true;
    layout.global_counters = n;
  }
  return id_of(layout);
}

}  // namespace svm_pmu
