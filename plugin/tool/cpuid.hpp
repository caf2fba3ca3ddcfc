// SPDX-License-Identifier: MIT
//
// The CPUID that a guest gets: what KVM supports.
#pragma once

#include <vmm/kvm_uapi.h>

#include <array>
#include <cstdint>
#include <string>
#include <tl/expected.hpp>
#include <vector>

#include "host_kit/hidden_cpuid.hpp"
#include "tool/kvm.hpp"

namespace svm_pmu::tool {

/// eax, ebx, ecx, edx.
using CpuidAnswer = std::array<uint32_t, 4>;

class Cpuid {
 public:
  /// KVM_GET_SUPPORTED_CPUID. Error: one line with the errno.
  static tl::expected<Cpuid, std::string> supported(Kvm& kvm);

  /// KVM_SET_CPUID2 on a vCPU: 0 or -errno.
  int32_t apply(Vcpu& vcpu) const;

  /// Clears what a plugin hides.
  void hide(const host_kit::HiddenCpuid& hidden) { hidden.clear_in(entries_); }

  /// Zeros for a leaf that is not there.
  CpuidAnswer lookup(uint32_t leaf, uint32_t subleaf) const;

  /// Leaf 0: "AuthenticAMD".
  std::string vendor() const;

 private:
  std::vector<kvm_cpuid_entry2> entries_;
};

}  // namespace svm_pmu::tool
