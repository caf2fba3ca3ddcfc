// SPDX-License-Identifier: MIT
//
// The CPUID that a VM's guest gets: what KVM supports, with the PMU bits that a test or a user
// wants, as a KVM_SET_CPUID2 request and as lookups.
#pragma once

#include <vmm/kvm_uapi.h>
#include <vmm/plugin.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

#include "host_kit/cpuid_table.hpp"
#include "kvm/kvm.hpp"
#include "stub_vmm/linux_guest.hpp"

namespace host_stub {

/// What of the guest's CPUID differs from what KVM supports.
struct CpuidModel {
  enum class Pmu : uint8_t {
    host,     ///< as KVM supports it
    plain,    ///< no PerfCtrExtCore, no PerfMonV2
    core,     ///< PerfCtrExtCore
    v2,       ///< PerfCtrExtCore and PerfMonV2 with `counters`
    v2_only,  ///< PerfMonV2 with `counters`, no PerfCtrExtCore: no CPU is so, but CPUIDs can be
  };
  enum class Vendor : uint8_t { host, amd, hygon, intel };
  Pmu pmu = Pmu::host;
  uint8_t counters = 6;  ///< EBX[3:0] of 0x80000022, 0..15; only with v2 and v2_only
  Vendor vendor = Vendor::host;

  /// "host", "plain", "core", "v2", "v2=4", "v2-only", "v2-only=4"; then ",vendor=amd|hygon|intel".
  /// Error: what is allowed.
  static tl::expected<CpuidModel, std::string> parse(std::string_view text);
};

class GuestCpuidTable {
 public:
  /// KVM_GET_SUPPORTED_CPUID, changed as the model says. Error: a line with the errno.
  static tl::expected<GuestCpuidTable, std::string> make(Kvm& kvm, const CpuidModel& model);

  /// Clears what plugins hide. 0, or -ENOSPC.
  int32_t hide(std::span<const vmm_cpuid_bits> bits) noexcept;

  /// KVM_SET_CPUID2 on a vCPU: 0 or -errno.
  int32_t apply(Vcpu& vcpu) const;

  /// What the guest's CPUID instruction returns: zeros for a leaf that is not there.
  CpuidResult lookup(uint32_t function, uint32_t subleaf) const;
  /// The same, as eax, ebx, ecx, edx.
  void lookup(uint32_t function, uint32_t subleaf, std::span<uint32_t, 4> registers) const {
    table_.lookup(function, subleaf, registers);
  }

 private:
  host_kit::CpuidTable table_;
};

}  // namespace host_stub
