// SPDX-License-Identifier: MIT
//
// The core performance monitoring registers of AMD (and Hygon) processors: MSR addresses, bits and
// the CPUID leaves that announce them.
//
// Source: AMD64 Architecture Programmer's Manual vol. 2, "Performance Monitoring Counters" and
// "MSR Cross-Reference"; vol. 3, CPUID Fn8000_0001_ECX and Fn8000_0022; Processor Programming
// References for the MSRC... names. Limits of KVM: arch/x86/kvm/svm/pmu.c.
#pragma once

#include <cstdint>

namespace svm_pmu::amd {

// Legacy ("K7") bank: 4 event selectors and 4 counters. KVM makes them aliases of the first four of
// the extended bank.
inline constexpr uint32_t kPerfEvtSel0 = 0xc0010000;  ///< MSRC001_0000 PerfEvtSel0
inline constexpr uint32_t kPerfCtr0 = 0xc0010004;     ///< MSRC001_0004 PerfCtr0
inline constexpr uint32_t kLegacyCounters = 4;

// Extended ("F15H", PerfCtrExtCore) bank: selector and counter alternate.
inline constexpr uint32_t kPerfCtl0 = 0xc0010200;  ///< MSRC001_0200 PERF_CTL0
inline constexpr uint32_t kExtCtr0 = 0xc0010201;   ///< MSRC001_0201 PERF_CTR0
inline constexpr uint32_t kExtCounters = 6;        ///< also KVM_MAX_NR_AMD_GP_COUNTERS

// Global registers of PerfMonV2.
inline constexpr uint32_t kGlobalStatus = 0xc0000300;     ///< MSRC000_0300 PerfCntrGlobalStatus
inline constexpr uint32_t kGlobalCtl = 0xc0000301;        ///< MSRC000_0301 PerfCntrGlobalCtl
inline constexpr uint32_t kGlobalStatusClr = 0xc0000302;  ///< MSRC000_0302, write-only: no state
inline constexpr uint32_t kGlobalStatusSet = 0xc0000303;  ///< MSRC000_0303, write-only: no state
inline constexpr uint32_t kGlobalRegisters = 4;

/// Event selector: counter enabled.
inline constexpr uint64_t kSelectorEn = uint64_t{1} << 22;
/// Counters are 48 bits wide.
inline constexpr uint64_t kCounterMask = (uint64_t{1} << 48) - 1;

// CPUID.
inline constexpr uint32_t kLeafVendor = 0;
inline constexpr uint32_t kLeafExtFeatures = 0x80000001;  ///< ECX[23] = PerfCtrExtCore
inline constexpr uint32_t kPerfCtrExtCoreBit = 1u << 23;
inline constexpr uint32_t kPerfCtrExtNbBit = 1u << 24;         ///< ECX[24]: north bridge counters
inline constexpr uint32_t kPerfCtrExtLlcBit = 1u << 28;        ///< ECX[28]: L2I or L3 counters
inline constexpr uint32_t kLeafExtPerfMonAndDbg = 0x80000022;  ///< EAX[0] = PerfMonV2
inline constexpr uint32_t kPerfMonV2Bit = 1u << 0;
inline constexpr uint32_t kNumPerfCtrCoreMask = 0xf;  ///< EBX[3:0]
/// EBX: the numbers of core, north bridge and memory controller counters; not EBX[9:4], which is
/// the size of the LBR stack.
inline constexpr uint32_t kNumPerfCtrMask = 0x003ffc0f;

}  // namespace svm_pmu::amd
