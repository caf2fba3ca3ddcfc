// SPDX-License-Identifier: MIT
//
// One case of the test matrix: a host, a guest CPUID and the plugin's options. All of them are the
// product of the axes below; which of them cannot be is said by matrix_expectation.hpp.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace host_stub::matrix {

/// What is special about the host, beside its kernel and kvm.enable_pmu.
enum class HostVariant : uint8_t {
  plain,
  perfmonv2,            ///< its CPU has PerfMonV2
  mediated,             ///< and KVM mediates the PMU
  mediated_no_irqchip,  ///< that, and the VMM makes no in-kernel irqchip
  mediated_busy,        ///< that, and system-wide perf events of the host hold the PMU
};

/// Vendor of the host's CPU and of the guest's CPUID.
enum class VendorPair : uint8_t { amd, hygon, intel_host_amd_guest, amd_host_intel_guest };

/// PMU in the guest's CPUID.
enum class GuestPmu : uint8_t { plain, core, v2 };

/// What is done about the vPMU.
enum class PmuOff : uint8_t {
  no_plugin,  ///< the control: what these hosts do to a guest without the plugin
  off,        ///< pmu-cap-disabled=off
  automatic,  ///< pmu-cap-disabled=on, pmu-off-method=auto
  cap,
  msr_filter,
  vmm_said_off,  ///< pmu-cap-disabled=auto under a VMM that was told so, and the two below
  vmm_said_on,
  vmm_said_nothing,
};

/// pmu-cpuid=
enum class PmuCpuid : uint8_t { automatic, hide, keep };

struct Case {
  std::string_view kernel;  ///< "linux-6.12"
  HostVariant variant = HostVariant::plain;
  bool enable_pmu = true;
  VendorPair vendor = VendorPair::amd;
  GuestPmu guest = GuestPmu::core;
  uint8_t claimed = 0;  ///< EBX[3:0] of leaf 0x80000022, with v2
  PmuOff off = PmuOff::off;
  PmuCpuid cpuid = PmuCpuid::automatic;
  bool strict = false;
  bool batch = false;  ///< the host lends its KVM_SET_MSRS batch at a reset; not an axis

  bool has_plugin() const { return off != PmuOff::no_plugin; }
  bool irqchip() const { return variant != HostVariant::mediated_no_irqchip; }
  std::string kvm_spec() const;     ///< for parse_profile
  std::string cpuid_model() const;  ///< for CpuidModel::parse
  std::string options() const;      ///< for the plugin
  uint32_t guest_pmu() const;       ///< VMM_GUEST_PMU_*: what the VMM was told
  std::string host() const;         ///< "linux-6.12,host-perfmonv2", with what no spec can say
  std::string_view vendor_word() const;
  std::string_view off_word() const;  ///< "-", "off", "auto", "cap", "msr-filter", "vmm-off", ...
  std::string name() const;           ///< all of it, what --filter looks into
};

/// The axes' product, in a fixed order: the hosts outermost, oldest kernel first.
std::vector<Case> all_cases();

}  // namespace host_stub::matrix
