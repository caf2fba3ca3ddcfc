// SPDX-License-Identifier: MIT
//
// Which PMU register of an AMD CPU is this MSR? Names and numbers from the AMD APM vol. 2, "Core
// Performance Monitoring Counters".
#pragma once

#include <cstdint>
#include <optional>

namespace host_stub {

inline constexpr uint32_t kMaxCounters = 6;     ///< KVM's limit (KVM_AMD_PMC_MAX_GENERIC)
inline constexpr uint32_t kLegacyCounters = 4;  ///< without PerfCtrExtCore

inline constexpr uint32_t kMsrLegacyCtl0 = 0xc0010000;  ///< MSRC001_0000, K7_EVNTSEL0..3, stride 1
inline constexpr uint32_t kMsrLegacyCtr0 = 0xc0010004;  ///< MSRC001_0004, K7_PERFCTR0..3, stride 1
inline constexpr uint32_t kMsrCtl0 = 0xc0010200;  ///< MSRC001_0200, F15H_PERF_CTL0..5, stride 2
inline constexpr uint32_t kMsrCtr0 = 0xc0010201;  ///< MSRC001_0201, F15H_PERF_CTR0..5, stride 2
inline constexpr uint32_t kMsrGlobalStatus = 0xc0000300;     ///< PerfCntrGlobalStatus
inline constexpr uint32_t kMsrGlobalCtl = 0xc0000301;        ///< PerfCntrGlobalCtl
inline constexpr uint32_t kMsrGlobalStatusClr = 0xc0000302;  ///< PerfCntrGlobalStatusClr
inline constexpr uint32_t kMsrGlobalStatusSet = 0xc0000303;  ///< PerfCntrGlobalStatusSet

inline constexpr uint64_t kSelectorUsr = uint64_t{1} << 16;
inline constexpr uint64_t kSelectorOs = uint64_t{1} << 17;
inline constexpr uint64_t kSelectorInt = uint64_t{1} << 20;
inline constexpr uint64_t kSelectorEn = uint64_t{1} << 22;
inline constexpr uint64_t kCounterMask = (uint64_t{1} << 48) - 1;

/// The families of PMU MSRs, told apart by which CPUID bit promises them.
enum class PmuBank : uint8_t {
  legacy,    ///< always there: K7, counters 0-3
  extended,  ///< PerfCtrExtCore: F15H, counters 0-5
  global,    ///< PerfMonV2
};

struct PmuMsr {
  PmuBank bank;
  bool selector;   ///< event selector, else counter; meaningless in the global bank
  uint32_t index;  ///< number of the counter; in the global bank the distance from GlobalStatus
};

/// Empty: not a PMU register.
constexpr std::optional<PmuMsr> pmu_msr(uint32_t msr) {
  if (msr >= kMsrLegacyCtl0 && msr < kMsrLegacyCtl0 + kLegacyCounters)
    return PmuMsr{PmuBank::legacy, true, msr - kMsrLegacyCtl0};
  if (msr >= kMsrLegacyCtr0 && msr < kMsrLegacyCtr0 + kLegacyCounters)
    return PmuMsr{PmuBank::legacy, false, msr - kMsrLegacyCtr0};
  if (msr >= kMsrCtl0 && msr < kMsrCtl0 + 2 * kMaxCounters)
    return PmuMsr{PmuBank::extended, (msr - kMsrCtl0) % 2 == 0, (msr - kMsrCtl0) / 2};
  if (msr >= kMsrGlobalStatus && msr <= kMsrGlobalStatusSet)
    return PmuMsr{PmuBank::global, false, msr - kMsrGlobalStatus};
  return std::nullopt;
}

}  // namespace host_stub
