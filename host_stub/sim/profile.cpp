// SPDX-License-Identifier: MIT
#include "sim/profile.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

namespace host_stub {
namespace {

constexpr std::string_view kDefaultKernel = "linux-6.12";
constexpr std::string_view kSwitches =
    "enable_pmu=Y|N, host-perfmonv2, mediated, host-perf-busy[=N], no-pmu-capability, "
    "ignore_msrs=0|1, counters=1..15, vendor=amd|hygon|intel";
constexpr uint32_t kMostCounters = 15;

std::string kernel_names() {
  std::string names;
  for (const Kernel& kernel : kernels()) {
    if (!names.empty()) names += ", ";
    names += kernel.name;
  }
  return names;
}

using Error = tl::unexpected<std::string>;

Error bad(std::string_view spec, std::string_view part, std::string_view allowed) {
  return Error(fmt::format("'{}': '{}': {}", spec, part, allowed));
}

bool flag_is(std::string_view value) { return value.empty(); }

/// A number of counters. Error: what is allowed.
tl::expected<uint32_t, std::string> counters_of(std::string_view key, std::string_view value) {
  uint32_t number = 0;
  const char* end = value.data() + value.size();
  const auto [stop, error] = std::from_chars(value.data(), end, number);
  if (error != std::errc{} || stop != end || number < 1 || number > kMostCounters)
    return Error(fmt::format("allowed: {0}=1 to {0}={1}", key, kMostCounters));
  return number;
}

/// One switch into the profile. Error: what is allowed.
tl::expected<void, std::string> apply(Profile& profile, std::string_view key,
                                      std::string_view value) {
  if (key == "enable_pmu" && (value == "Y" || value == "N")) {
    profile.enable_pmu = value == "Y";
  } else if (key == "host-perfmonv2" && flag_is(value)) {
    profile.host_perfmonv2 = true;
  } else if (key == "mediated" && flag_is(value)) {
    profile.mediated = true;
  } else if (key == "host-perf-busy") {
    if (value.empty()) {
      profile.held_counters = kMostCounters;
      return {};
    }
    const auto held = counters_of(key, value);
    if (!held) return Error(held.error());
    profile.held_counters = *held;
  } else if (key == "no-pmu-capability" && flag_is(value)) {
    profile.no_pmu_capability = true;
  } else if (key == "ignore_msrs" && (value == "0" || value == "1")) {
    profile.ignore_msrs = value == "1";
  } else if (key == "vendor" && value == "amd") {
    profile.vendor = Vendor::amd;
  } else if (key == "vendor" && value == "hygon") {
    profile.vendor = Vendor::hygon;
  } else if (key == "vendor" && value == "intel") {
    profile.vendor = Vendor::intel;
  } else if (key == "counters") {
    const auto counters = counters_of(key, value);
    if (!counters) return Error(counters.error());
    profile.counters = *counters;
  } else {
    return Error(fmt::format("allowed: {}", kSwitches));
  }
  return {};
}

/// Switches that no such host can have together. Error: the offending part and why.
tl::expected<void, std::string> check(const Profile& profile, const std::set<std::string>& given) {
  const auto error = [&](std::string_view part, std::string_view why) {
    return bad(profile.spec, part, why);
  };
  if (given.contains("enable_pmu") && !profile.kernel->enable_pmu_parameter)
    return error("enable_pmu", "kvm.enable_pmu came in Linux 5.17; allowed: a later kernel");
  if (profile.mediated && !profile.kernel->mediated)
    return error("mediated", "the mediated vPMU came in Linux 7.0; allowed: linux-7.2");
  if (profile.vendor == Vendor::intel && (profile.mediated || profile.host_perfmonv2))
    return error("vendor=intel",
                 "PerfMonV2 and the mediated vPMU here are AMD's; allowed: neither");
  if (profile.mediated && !profile.host_perfmonv2)
    return error("mediated", "needs host-perfmonv2 on AMD; allowed: host-perfmonv2,mediated");
  if (profile.no_pmu_capability && !profile.kernel->pmu_capability)
    return error(
        "no-pmu-capability",
        "KVM_CAP_PMU_CAPABILITY came in Linux 5.18, this kernel has none; allowed: a later kernel");
  return {};
}

/// The parts of a spec behind "sim": the kernel's name (may be empty) and the switches.
struct Parts {
  std::string_view kernel;
  std::vector<std::string_view> switches;
};

tl::expected<Parts, std::string> split(std::string_view spec) {
  constexpr std::string_view kPrefix = "sim";
  if (!spec.starts_with(kPrefix)) return bad(spec, spec, "allowed: sim[:KERNEL][,SWITCH]...");
  std::string_view rest = spec.substr(kPrefix.size());
  Parts parts;
  if (!rest.empty() && rest.front() == ':') {
    parts.kernel = rest.substr(1, rest.find(',') - 1);
    rest.remove_prefix(1 + parts.kernel.size());
    if (parts.kernel.empty())
      return bad(spec, ":", fmt::format("allowed after it: {}", kernel_names()));
  }
  while (!rest.empty()) {
    if (rest.front() != ',') return bad(spec, rest, "allowed: sim[:KERNEL][,SWITCH]...");
    rest.remove_prefix(1);
    parts.switches.push_back(rest.substr(0, rest.find(',')));
    rest.remove_prefix(parts.switches.back().size());
  }
  return parts;
}

// Which other MSRs a kernel lists was not recorded, only how many: the first so many of these stand
// for them. All are MSRs that KVM lists on some AMD host (msrs_to_save, emulated_msrs).
constexpr std::array<uint32_t, 73> kOtherMsrs{
    0x174,      0x175,      0x176,      0xc0000081, 0xc0000083, 0xc0000102, 0xc0000084, 0xc0000082,
    0x10,       0x277,      0xc0010117, 0x3a,       0xc0000103, 0x48,       0x11,       0x12,
    0x4b564d00, 0x4b564d01, 0x4b564d02, 0x4b564d06, 0x4b564d07, 0x4b564d03, 0x4b564d04, 0x4b564d05,
    0x4b564d08, 0x3b,       0x6e0,      0x10a,      0x1a0,      0x17a,      0x17b,      0x9e,
    0x34,       0xce,       0x140,      0xc001011f, 0xc0000104, 0x8b,       0xc0010015, 0xc0011029,
    0x40000000, 0x40000001, 0x40000020, 0x40000021, 0x40000100, 0x40000101, 0x40000102, 0x40000103,
    0x40000104, 0x40000105, 0x40000003, 0x40000002, 0x40000010, 0x40000080, 0x400000b0, 0x40000073,
    0x40000106, 0x40000107, 0x40000108, 0x400000f1, 0x400000f2, 0x400000f3, 0x400000f4, 0x400000f5,
    0x400000ff, 0x40000118, 0xda0,      0x1c4,      0x1c5,      0x6a0,      0x6a2,      0x6a4,
    0x6a7};

void add_range(std::vector<uint32_t>& list, uint32_t first, uint32_t count, uint32_t stride = 1) {
  for (uint32_t i = 0; i < count; ++i) list.push_back(first + i * stride);
}

/// KVM lists the architectural (Intel's) PMU MSRs on AMD hosts too.
void add_architectural_pmu(std::vector<uint32_t>& list, const Profile& profile) {
  const bool old = profile.kernel->lists_fixed_overflow;
  if (profile.enable_pmu || old) {
    add_range(list, 0x309, 3);
    add_range(list, 0x38d, old ? 4 : 3);
  }
  if (!profile.enable_pmu) return;
  add_range(list, 0xc1, std::min(profile.counters, 6U));
  add_range(list, 0x186, std::min(profile.counters, 6U));
}

/// Hygon Dhyana.
CpuidLeaf of_hygon(CpuidLeaf leaf) {
  if (leaf.function == 0 || leaf.function == 0x80000000)  // "HygonGenuine"
    leaf.ebx = 0x6f677948, leaf.edx = 0x6e65476e, leaf.ecx = 0x656e6975;
  if (leaf.function == 1 || leaf.function == 0x80000001) leaf.eax = 0x900f02;
  return leaf;
}

/// An Intel CPU (Skylake server) with the vPMU that kvm_intel offers: version 2, four counters and
/// three fixed ones of 48 bits (inferred: SDM vol. 2, CPUID; KVM's __do_cpuid_func).
CpuidLeaf of_intel(const CpuidLeaf& leaf, bool enable_pmu) {
  constexpr uint32_t kPdcm = 1U << 15;
  switch (leaf.function) {
    case 0:  // "GenuineIntel"
      return {0, 0x16, 0x756e6547, 0x6c65746e, 0x49656e69};
    case 1:
      return {1, 0x50654, leaf.ebx, enable_pmu ? leaf.ecx | kPdcm : leaf.ecx & ~kPdcm, leaf.edx};
    case 0xa:
      return enable_pmu ? CpuidLeaf{0xa, 0x07300402, 0, 0, 0x603} : CpuidLeaf{0xa, 0, 0, 0, 0};
    case 0x80000000:  // names no vendor
      return {0x80000000, 0x80000008, 0, 0, 0};
    case 0x80000001:
      return {0x80000001, 0, 0, 0x121, 0x2c100800};
    default:
      return leaf;
  }
}

}  // namespace

bool Profile::offers_core() const { return amd_pmu() && enable_pmu && counters >= 6; }

bool Profile::offers_perfmonv2() const {
  return offers_core() && host_perfmonv2 && kernel->perfmonv2;
}

tl::expected<Profile, std::string> parse_profile(std::string_view spec) {
  const auto parts = split(spec);
  if (!parts) return Error(parts.error());
  const std::string_view name = parts->kernel.empty() ? kDefaultKernel : parts->kernel;
  const auto kernel = std::ranges::find(kernels(), name, &Kernel::name);
  if (kernel == kernels().end())
    return bad(spec, name, fmt::format("unknown kernel; allowed: {}", kernel_names()));
  Profile profile;
  profile.kernel = &*kernel;
  profile.spec = spec;
  std::set<std::string> given;
  for (const std::string_view part : parts->switches) {
    const size_t equals = part.find('=');
    const std::string_view key = part.substr(0, equals);
    if (!given.insert(std::string(key)).second)
      return bad(spec, part, "given twice; allowed: once");
    const auto value =
        equals == std::string_view::npos ? std::string_view{} : part.substr(equals + 1);
    if (const auto done = apply(profile, key, value); !done) return bad(spec, part, done.error());
  }
  if (const auto fine = check(profile, given); !fine) return Error(fine.error());
  return profile;
}

std::vector<CpuidLeaf> supported_cpuid(const Profile& profile) {
  std::vector<CpuidLeaf> leaves;
  const bool leaf22 = profile.amd_pmu() && profile.host_perfmonv2 && profile.kernel->perfmonv2;
  for (CpuidLeaf leaf : profile.kernel->cpuid) {
    if (profile.vendor == Vendor::hygon) leaf = of_hygon(leaf);
    if (profile.vendor == Vendor::intel) leaf = of_intel(leaf, profile.enable_pmu);
    if (leaf.function == 0x80000001 && profile.offers_core()) leaf.ecx |= 1U << 23;
    if (leaf.function == 0x80000000 && leaf22) leaf.eax = 0x80000022;
    leaves.push_back(leaf);
  }
  // with enable_pmu=N the leaf stays, all zeroes (inferred)
  const bool v2 = profile.offers_perfmonv2();
  if (leaf22)
    leaves.push_back({0x80000022, v2 ? 1U : 0U, v2 ? std::min(profile.counters, 6U) : 0U, 0, 0});
  return leaves;
}

std::vector<uint32_t> msr_index_list(const Profile& profile) {
  std::vector<uint32_t> list(kOtherMsrs.begin(), kOtherMsrs.begin() + profile.kernel->other_msrs);
  add_architectural_pmu(list, profile);
  if (!profile.amd_pmu()) return list;
  if (profile.enable_pmu || profile.kernel->listed_while_off) {
    add_range(list, 0xc0010000, 8);
    if (profile.counters >= 6) {  // each candidate is read on the host first
      add_range(list, 0xc0010200, 6, 2);
      add_range(list, 0xc0010201, 6, 2);
    }
  }
  if (profile.offers_perfmonv2()) {
    list.insert(list.end(), {0xc0000301, 0xc0000300, 0xc0000302});
    if (profile.kernel->status_set) list.push_back(0xc0000303);
  }
  return list;
}

}  // namespace host_stub
