// SPDX-License-Identifier: MIT
//
// The CPUID that a guest gets: what KVM supports.
#pragma once

#include <string>
#include <tl/expected.hpp>

#include "host_kit/cpuid_table.hpp"
#include "tool/kvm.hpp"

namespace svm_pmu::tool {

/// KVM_GET_SUPPORTED_CPUID. Error: one line with the errno.
tl::expected<host_kit::CpuidTable, std::string> supported_cpuid(Kvm& kvm);

/// KVM_SET_CPUID2 on a vCPU: 0 or -errno.
int32_t set_cpuid(Vcpu& vcpu, const host_kit::CpuidTable& table);

/// Leaf 0: "AuthenticAMD".
std::string vendor_of(const host_kit::CpuidTable& table);

}  // namespace svm_pmu::tool
