// SPDX-License-Identifier: MIT
//
// What a PMU register and its value are, in words.
#pragma once

#include <cstdint>
#include <string>

namespace svm_pmu::tool {

/// Whose register an MSR is.
enum class MsrKind : uint8_t {
  amd_selector,  ///< an event selector of AMD's PMU
  amd_pmu,       ///< another register of AMD's PMU
  intel_pmu,     ///< a register of Intel's PMU
  other,
};

MsrKind kind_of(uint32_t msr);

/// "PERF_CTL0, the event selector of AMD's counter 0"; empty for MsrKind::other.
std::string describe_msr(uint32_t msr);

/// "event 076 (core clocks not halted), USR, OS, INT, EN".
std::string describe_selector(uint64_t value);

}  // namespace svm_pmu::tool
