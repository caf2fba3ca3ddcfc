// SPDX-License-Identifier: MIT
//
// The table of kernels. Sources of a column's values: "recorded" = tests/data/kvm_facts, replayed
// by test_facts; "measured" = on a running kernel, without a recording; a commit id = Linux; "read"
// and "inferred" = from source, not seen running.
#include <algorithm>
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
/// What is no yes or no.
struct Row {
  std::string_view name, release;
  int32_t disable_quirks2;          // 213 came in 5.18; the values before 6.18 are inferred
  int32_t max_vcpus, max_vcpu_id;   // 5.10 inferred, 6.18 measured
  ReadsZero extended_reads_zero;    // everybody: read, kvm_get_msr_common; on Intel hosts only
  uint32_t other_msrs;
  std::span<const CpuidLeaf> cpuid;
};
constexpr Row kRows[] = {
    // read (arch/x86/kvm/pmu_amd.c) and inferred from 5.10; no recording
    {"linux-5.4", "5.4.0", 0, 288, 1023, ReadsZero::everybody, 66, kCpuid510},
    // recorded: 105 MSRs are listed
    {"linux-5.10", "5.10.0-32-cloud-amd64", 0, 288, 1023, ReadsZero::everybody, 66, kCpuid510},
    // read (arch/x86/kvm/svm/pmu.c) and inferred from its neighbours; no recording
    {"linux-5.15", "5.15.0", 0, 1024, 4096, ReadsZero::host, 70, kCpuid61},
    // recorded: 109 MSRs are listed, 97 with enable_pmu=N
    {"linux-6.1", "6.1.0-56-cloud-amd64", 0x7f, 1024, 4096, ReadsZero::host, 70, kCpuid61},
    // read (arch/x86/kvm/svm/pmu.c as released) and inferred from 6.12; no recording
    {"linux-6.6", "6.6.0", 0xff, 1024, 4096, ReadsZero::nobody, 68, kCpuid61},
    // the stable branch since 6.6.30, which took de120e1d692d and f933b88e2015; as 6.12, inferred
    {"linux-6.6.y", "6.6.100", 0xff, 1024, 4096, ReadsZero::nobody, 68, kCpuid61},
    // recorded: 106 MSRs are listed, 68 with enable_pmu=N
    {"linux-6.12", "6.12.95+deb12-cloud-amd64", 0xff, 1024, 4096, ReadsZero::nobody, 68, kCpuid61},
    // recorded: 106, 110 with PerfMonV2; with enable_pmu=N as kvm_pvm of 6.18.44, another module
    {"linux-6.18", "6.18.15+deb13-cloud-amd64", 1535, 1024, 4096, ReadsZero::nobody, 68, kCpuid618},
    // recorded: 111, 115 with PerfMonV2
    {"linux-7.2", "7.2.13+deb14-cloud-amd64", 1535, 1024, 4096, ReadsZero::nobody, 73, kCpuid618},
};

/// Yes (+) or no (-) in the order of kRows: 5.4 5.10 5.15, 6.1 6.6 6.6.y, 6.12 6.18 7.2.
constexpr struct {
  bool Kernel::*column;
  std::string_view answers;
} kYesOrNo[] = {
    {&Kernel::msr_filter,               "-++" "+++" "+++"},  // came in 5.10; recorded
    {&Kernel::pmu_capability,           "---" "+++" "+++"},  // 5.18; recorded
    {&Kernel::enable_pmu_parameter,     "---" "+++" "+++"},  // 5.17; recorded (5.10: no file)
    {&Kernel::sregs2,                   "--+" "+++" "+++"},  // 5.14, inferred; measured in 6.18
    {&Kernel::user_msr_checks_args,     "---" "+++" "+++"},  // inferred; measured in 6.18
    // recorded: F15H live without PerfCtrExtCore in 5.10; c28fa560c5bb in 5.13
    {&Kernel::always_live,              "++-" "---" "---"},
    // recorded: off and PerfCtrExtCore: 6.1 gives 0 and takes 0, 6.12 refuses; 4a2771895ca6 in 6.5
    {&Kernel::refused_by_cpuid_alone,   "---" "-++" "+++"},
    // read: kvm_set_msr_common; nothing to see beside the waiver
    {&Kernel::extended_takes_zero,      "---" "+--" "---"},
    // recorded; 2de154f541fc in 6.3 and 6.1.187; 5.10: GLOBAL_* fail, nothing else could show it
    {&Kernel::zero_waiver,              "---" "+++" "+++"},
    // recorded, 6.18 by kvm_pvm; c3531edc79a7 in 6.3
    {&Kernel::listed_while_off,         "+++" "+--" "---"},
    {&Kernel::lists_fixed_overflow,     "+++" "+--" "---"},  // recorded
    {&Kernel::counters_capped,          "---" "-++" "+++"},  // inferred: 6.3; before by MSR number
    {&Kernel::perfmonv2,                "---" "-++" "+++"},  // recorded; 4a2771895ca6 in 6.5
    {&Kernel::status_set,               "---" "---" "+++"},  // recorded; 6.12.95 has a backport
    // recorded: PerfMonV2 in CPUID on a host without is live in 6.12 and ignored in 7.2; 6.14
    {&Kernel::cpuid_capped,             "---" "---" "-++"},
    {&Kernel::global_ctl_at_cpuid,      "---" "--+" "+++"},  // recorded; de120e1d692d in 6.9
    // recorded: K7 reads 0 while off from 6.12 on; 6.1 inferred; f933b88e2015 in 6.8
    {&Kernel::metadata_while_off,       "---" "++-" "---"},
    {&Kernel::mediated,                 "---" "---" "--+"},  // recorded; 7.0
    // recorded: to 6.1 a selector set and cleared between two ioctls counts; 68fb4757e867 in 6.2
    {&Kernel::reprogram_at_once,        "+++" "+--" "---"},
    {&Kernel::cpuid_frozen_after_run,   "---" "+++" "+++"},  // inferred: 5.16
    // a16eb25b09c0 for all, undone for AMD by 49ff3b4aec51
    {&Kernel::lvtpc_masked_on_delivery, "---" "-+-" "---"},
};
// clang-format on
static_assert(std::ranges::all_of(kYesOrNo, [](const auto& column) {
  return column.answers.size() == std::size(kRows);
}));

constexpr auto kKernels = []() {
  std::array<Kernel, std::size(kRows)> all{};
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Row& row = kRows[i];
    all[i].name = row.name;
    all[i].release = row.release;
    all[i].disable_quirks2 = row.disable_quirks2;
    all[i].max_vcpus = row.max_vcpus;
    all[i].max_vcpu_id = row.max_vcpu_id;
    all[i].extended_reads_zero = row.extended_reads_zero;
    all[i].other_msrs = row.other_msrs;
    all[i].cpuid = row.cpuid;
    for (const auto& [column, answers] : kYesOrNo) all[i].*column = answers[i] == '+';
  }
  return all;
}();

}  // namespace

std::span<const Kernel> kernels() { return kKernels; }

}  // namespace host_stub
