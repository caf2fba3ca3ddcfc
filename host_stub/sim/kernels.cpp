// SPDX-License-Identifier: MIT
//
// The table of kernels. Sources of a column's values: "recorded" = tests/data/kvm_facts, replayed
// by test_facts; a commit id = Linux; "read" and "inferred" = from source, not seen running.
#include <array>

#include "sim/profile.hpp"

namespace host_stub {
namespace {

// Recorded leaves. Later kernels raise 80000000.EAX and add to leaf 1 and 80000001; what depends on
// a switch (80000001.ECX[23], leaf 80000022) is put in by supported_cpuid().
constexpr CpuidLeaf kVendorLeaf{0, 0xd, 0x68747541, 0x444d4163, 0x69746e65};
constexpr CpuidLeaf kLeafA{0xa, 0, 0, 0, 0};
constexpr CpuidLeaf kZen3Extended{0x80000001, 0xa00f11, 0, 0x75, 0x2dd3fbfd};

constexpr std::array kCpuid510{
    kVendorLeaf, CpuidLeaf{1, 0xa00f11, 0x800, 0x76f83203, 0x78bfbfd}, kLeafA,
    CpuidLeaf{0x80000000, 0x8000001e, 0x68747541, 0x444d4163, 0x69746e65}, kZen3Extended};
constexpr std::array kCpuid61{
    kVendorLeaf, CpuidLeaf{1, 0xa00f11, 0x800, 0x76f83203, 0x78bfbfd}, kLeafA,
    CpuidLeaf{0x80000000, 0x80000021, 0x68747541, 0x444d4163, 0x69746e65}, kZen3Extended};
constexpr std::array kCpuid618{
    kVendorLeaf, CpuidLeaf{1, 0xa00f11, 0x800, 0xf7f83203, 0x78bfbfd}, kLeafA,
    CpuidLeaf{0x80000000, 0x80000021, 0x68747541, 0x444d4163, 0x69746e65}, kZen3Extended};

// clang-format off
constexpr std::array<Kernel, 9> kKernels{{
  Kernel{
    // read (arch/x86/kvm/pmu_amd.c) and inferred from 5.10; no recording
    .name = "linux-5.4", .release = "5.4.0",
    .msr_filter = false,              // came in 5.10
    .pmu_capability = false, .enable_pmu_parameter = false,
    .disable_quirks2 = 0,
    .sregs2 = false,
    .max_vcpus = 288, .max_vcpu_id = 1023,
    .user_msr_checks_args = false,
    .always_live = true,              // as 5.10; c28fa560c5bb came in 5.13
    .refused_by_cpuid_alone = false,
    .extended_reads_zero = ReadsZero::everybody,  // shows on Intel hosts only
    .extended_takes_zero = false,
    .zero_waiver = false,
    .listed_while_off = true,
    .lists_fixed_overflow = true,
    .counters_capped = false,
    .perfmonv2 = false,
    .status_set = false,
    .cpuid_capped = false,
    .global_ctl_at_cpuid = false,
    .metadata_while_off = false,      // it is never off
    .mediated = false,
    .reprogram_at_once = true,
    .cpuid_frozen_after_run = false,
    .lvtpc_masked_on_delivery = false,
    .other_msrs = 66,                 // not known: as 5.10
    .cpuid = kCpuid510},
  Kernel{
    .name = "linux-5.10", .release = "5.10.0-32-cloud-amd64",
    .msr_filter = true,               // recorded
    .pmu_capability = false,          // recorded
    .enable_pmu_parameter = false,    // recorded: no such file
    .disable_quirks2 = 0,             // capability 213 came in 5.18
    .sregs2 = false,                  // 5.14 (inferred)
    .max_vcpus = 288, .max_vcpu_id = 1023,  // inferred
    .user_msr_checks_args = false,    // inferred
    .always_live = true,              // recorded: F15H live without PerfCtrExtCore
    .refused_by_cpuid_alone = false,
    .extended_reads_zero = ReadsZero::everybody,  // read: kvm_get_msr_common; on Intel hosts only
    .extended_takes_zero = false,
    .zero_waiver = false,             // recorded: GLOBAL_* fail; nothing else could show it
    .listed_while_off = true,
    .lists_fixed_overflow = true,     // recorded
    .counters_capped = false,         // inferred: lookup by MSR number only
    .perfmonv2 = false,               // recorded
    .status_set = false,
    .cpuid_capped = false,            // came in 6.14
    .global_ctl_at_cpuid = false,
    .metadata_while_off = false,      // it is never off
    .mediated = false,
    .reprogram_at_once = true,        // recorded: a selector set and cleared between two ioctls counted
    .cpuid_frozen_after_run = false,  // inferred: came in 5.16
    .lvtpc_masked_on_delivery = false,  // a16eb25b09c0 for all, undone for AMD by 49ff3b4aec51
    .other_msrs = 66,                 // recorded: 105 entries
    .cpuid = kCpuid510},
  Kernel{
    // read (arch/x86/kvm/svm/pmu.c) and inferred from its neighbours; no recording
    .name = "linux-5.15", .release = "5.15.0",
    .msr_filter = true,
    .pmu_capability = false, .enable_pmu_parameter = false,  // 5.18 and 5.17
    .disable_quirks2 = 0,
    .sregs2 = true,                   // 5.14
    .max_vcpus = 1024, .max_vcpu_id = 4096,
    .user_msr_checks_args = false,
    .always_live = false,             // c28fa560c5bb in 5.13: F15H with PerfCtrExtCore only
    .refused_by_cpuid_alone = false,
    .extended_reads_zero = ReadsZero::host,  // the same commit
    .extended_takes_zero = false,
    .zero_waiver = false,             // 2de154f541fc came in 6.3
    .listed_while_off = true,
    .lists_fixed_overflow = true,
    .counters_capped = false,
    .perfmonv2 = false,
    .status_set = false,
    .cpuid_capped = false,
    .global_ctl_at_cpuid = false,
    .metadata_while_off = false,      // it is never off
    .mediated = false,
    .reprogram_at_once = true,        // deferral came in 6.2
    .cpuid_frozen_after_run = false,  // came in 5.16
    .lvtpc_masked_on_delivery = false,
    .other_msrs = 70,                 // not known: as 6.1
    .cpuid = kCpuid61},
  Kernel{
    .name = "linux-6.1", .release = "6.1.0-56-cloud-amd64",
    .msr_filter = true,               // recorded
    .pmu_capability = true,           // recorded
    .enable_pmu_parameter = true,     // recorded
    .disable_quirks2 = 0x7f,          // non-zero since 5.18; the value is inferred
    .sregs2 = true,
    .max_vcpus = 1024, .max_vcpu_id = 4096,
    .user_msr_checks_args = true,
    .always_live = false,             // recorded
    .refused_by_cpuid_alone = false,  // recorded: off and PerfCtrExtCore: get 0, set 0 ok
    .extended_reads_zero = ReadsZero::host,
    .extended_takes_zero = true,      // read: kvm_set_msr_common; nothing to see beside the waiver
    .zero_waiver = true,              // recorded (6.1.187)
    .listed_while_off = true,         // recorded
    .lists_fixed_overflow = true,     // recorded
    .counters_capped = false,         // inferred: came in 6.3
    .perfmonv2 = false,               // recorded
    .status_set = false,
    .cpuid_capped = false,
    .global_ctl_at_cpuid = false,
    .metadata_while_off = true,       // inferred; f933b88e2015 in 6.8
    .mediated = false,
    .reprogram_at_once = true,        // recorded, as 5.10; deferral is 68fb4757e867 in 6.2
    .cpuid_frozen_after_run = true,   // inferred
    .lvtpc_masked_on_delivery = false,
    .other_msrs = 70,                 // recorded: 109 entries, 97 with enable_pmu=N
    .cpuid = kCpuid61},
  Kernel{
    // read (arch/x86/kvm/svm/pmu.c as released) and inferred from 6.12; no recording
    .name = "linux-6.6", .release = "6.6.0",
    .msr_filter = true, .pmu_capability = true, .enable_pmu_parameter = true,
    .disable_quirks2 = 0xff,
    .sregs2 = true,
    .max_vcpus = 1024, .max_vcpu_id = 4096,
    .user_msr_checks_args = true,
    .always_live = false,
    .refused_by_cpuid_alone = true,   // 4a2771895ca6 in 6.5
    .extended_reads_zero = ReadsZero::nobody, .extended_takes_zero = false,
    .zero_waiver = true,
    .listed_while_off = false,
    .lists_fixed_overflow = false,
    .counters_capped = true,
    .perfmonv2 = true,                // 4a2771895ca6 in 6.5
    .status_set = false,
    .cpuid_capped = false,
    .global_ctl_at_cpuid = false,     // before de120e1d692d
    .metadata_while_off = true,       // before f933b88e2015
    .mediated = false,
    .reprogram_at_once = false, .cpuid_frozen_after_run = true,
    .lvtpc_masked_on_delivery = true,  // after a16eb25b09c0, before 49ff3b4aec51
    .other_msrs = 68,                 // not known: as 6.12
    .cpuid = kCpuid61},
  Kernel{
    // the stable branch since 6.6.30, which took de120e1d692d and f933b88e2015; as 6.12, inferred
    .name = "linux-6.6.y", .release = "6.6.100",
    .msr_filter = true, .pmu_capability = true, .enable_pmu_parameter = true,
    .disable_quirks2 = 0xff,
    .sregs2 = true,
    .max_vcpus = 1024, .max_vcpu_id = 4096,
    .user_msr_checks_args = true,
    .always_live = false, .refused_by_cpuid_alone = true,
    .extended_reads_zero = ReadsZero::nobody, .extended_takes_zero = false,
    .zero_waiver = true,
    .listed_while_off = false,
    .lists_fixed_overflow = false,
    .counters_capped = true,
    .perfmonv2 = true, .status_set = false,  // GLOBAL_STATUS_SET came there late
    .cpuid_capped = false,
    .global_ctl_at_cpuid = true, .metadata_while_off = false,
    .mediated = false,
    .reprogram_at_once = false, .cpuid_frozen_after_run = true,
    .lvtpc_masked_on_delivery = false,
    .other_msrs = 68,
    .cpuid = kCpuid61},
  Kernel{
    .name = "linux-6.12", .release = "6.12.95+deb12-cloud-amd64",
    .msr_filter = true, .pmu_capability = true, .enable_pmu_parameter = true,  // recorded
    .disable_quirks2 = 0xff,          // as above
    .sregs2 = true,
    .max_vcpus = 1024, .max_vcpu_id = 4096,
    .user_msr_checks_args = true,
    .always_live = false,             // recorded
    .refused_by_cpuid_alone = true,   // recorded: off and PerfCtrExtCore: even 0 refused
    .extended_reads_zero = ReadsZero::nobody, .extended_takes_zero = false,
    .zero_waiver = true,              // recorded
    .listed_while_off = false,        // recorded; c3531edc79a7 in 6.3
    .lists_fixed_overflow = false,    // recorded
    .counters_capped = true,          // inferred
    .perfmonv2 = true,                // recorded; 4a2771895ca6 in 6.5
    .status_set = true,               // recorded (6.12.95; stable backport)
    .cpuid_capped = false,            // recorded: PerfMonV2 in CPUID on a host without is live
    .global_ctl_at_cpuid = true,      // recorded; de120e1d692d in 6.9
    .metadata_while_off = false,      // recorded: K7 reads 0 while off
    .mediated = false,
    .reprogram_at_once = false,       // recorded: counters stay 0
    .cpuid_frozen_after_run = true,
    .lvtpc_masked_on_delivery = false,
    .other_msrs = 68,                 // recorded: 106 entries, 68 with enable_pmu=N
    .cpuid = kCpuid61},
  Kernel{
    // with enable_pmu=N as another KVM module (kvm_pvm of 6.18.44) answers, too
    .name = "linux-6.18", .release = "6.18.15+deb13-cloud-amd64",
    .msr_filter = true, .pmu_capability = true, .enable_pmu_parameter = true,  // recorded
    .disable_quirks2 = 1535,          // measured
    .sregs2 = true,                   // measured
    .max_vcpus = 1024, .max_vcpu_id = 4096,  // measured
    .user_msr_checks_args = true,     // measured
    .always_live = false, .refused_by_cpuid_alone = true,  // recorded
    .extended_reads_zero = ReadsZero::nobody, .extended_takes_zero = false,
    .zero_waiver = true,              // recorded
    .listed_while_off = false,        // recorded (kvm_pvm)
    .lists_fixed_overflow = false,    // recorded
    .counters_capped = true,          // inferred
    .perfmonv2 = true, .status_set = true,  // recorded
    .cpuid_capped = true,             // recorded; guest capabilities came in 6.14
    .global_ctl_at_cpuid = true,      // recorded
    .metadata_while_off = false,      // recorded
    .mediated = false,
    .reprogram_at_once = false,       // recorded: counters stay 0
    .cpuid_frozen_after_run = true,
    .lvtpc_masked_on_delivery = false,
    .other_msrs = 68,                 // recorded: 106 entries, 110 with PerfMonV2
    .cpuid = kCpuid618},
  Kernel{
    .name = "linux-7.2", .release = "7.2.13+deb14-cloud-amd64",
    .msr_filter = true, .pmu_capability = true, .enable_pmu_parameter = true,  // recorded
    .disable_quirks2 = 1535,          // as 6.18
    .sregs2 = true,
    .max_vcpus = 1024, .max_vcpu_id = 4096,
    .user_msr_checks_args = true,
    .always_live = false, .refused_by_cpuid_alone = true,
    .extended_reads_zero = ReadsZero::nobody, .extended_takes_zero = false,
    .zero_waiver = true,  // recorded
    .listed_while_off = false,
    .lists_fixed_overflow = false,    // recorded
    .counters_capped = true,
    .perfmonv2 = true, .status_set = true,  // recorded
    .cpuid_capped = true,             // recorded: PerfMonV2 in CPUID on a host without is ignored
    .global_ctl_at_cpuid = true,      // recorded
    .metadata_while_off = false,      // recorded
    .mediated = true,                 // recorded; 7.0
    .reprogram_at_once = false, .cpuid_frozen_after_run = true,
    .lvtpc_masked_on_delivery = false,
    .other_msrs = 73,                 // recorded: 111 entries, 115 with PerfMonV2
    .cpuid = kCpuid618},
}};
// clang-format on

}  // namespace

std::span<const Kernel> kernels() { return kKernels; }

}  // namespace host_stub
