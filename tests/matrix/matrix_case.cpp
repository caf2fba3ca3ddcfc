// SPDX-License-Identifier: MIT
#include "matrix/matrix_case.hpp"

#include <fmt/format.h>
#include <vmm/guest_pmu.h>

#include <array>

namespace host_stub::matrix {
namespace {

constexpr std::string_view kKernels[] = {"linux-5.4",  "linux-5.10", "linux-5.15",
                                         "linux-6.1",  "linux-6.6",  "linux-6.6.y",
                                         "linux-6.12", "linux-6.18", "linux-7.2"};

/// Indexed by HostVariant: switches of the simulated host, and how people read them.
struct VariantWords {
  const char* switches;
  const char* beside;
};
constexpr std::array<VariantWords, 5> kVariants{{
    {"", ""},
    {",host-perfmonv2", ""},
    {",host-perfmonv2,mediated", ""},
    {",host-perfmonv2,mediated", " no-irqchip"},
    {",host-perfmonv2,mediated,host-perf-busy", ""},
}};

/// Indexed by VendorPair.
struct VendorWords {
  const char* word;
  const char* switches;
  const char* model;
};
constexpr std::array<VendorWords, 4> kVendors{{
    {"amd", "", ",vendor=amd"},
    {"hygon", ",vendor=hygon", ",vendor=hygon"},
    {"intel-host", ",vendor=intel", ",vendor=amd"},
    {"intel-guest", "", ",vendor=intel"},
}};

struct Guest {
  GuestPmu pmu;
  uint8_t claimed;
};
// none, fewer than KVM has, all of them, more than KVM ever has
constexpr Guest kGuests[] = {{GuestPmu::plain, 0}, {GuestPmu::core, 0}, {GuestPmu::v2, 0},
                             {GuestPmu::v2, 4},    {GuestPmu::v2, 6},   {GuestPmu::v2, 12}};

/// Indexed by PmuOff.
struct OffWords {
  const char* word;
  const char* options;
  uint32_t guest_pmu = VMM_GUEST_PMU_UNSAID;
};
constexpr std::array<OffWords, 8> kOff{{
    {"-", ""},
    {"off", "pmu-cap-disabled=off"},
    {"auto", "pmu-cap-disabled=on,pmu-off-method=auto"},
    {"cap", "pmu-cap-disabled=on,pmu-off-method=cap"},
    {"msr-filter", "pmu-cap-disabled=on,pmu-off-method=msr-filter"},
    {"vmm-off", "pmu-cap-disabled=auto", VMM_GUEST_PMU_OFF},
    {"vmm-on", "pmu-cap-disabled=auto", VMM_GUEST_PMU_ON},
    {"vmm-silent", "pmu-cap-disabled=auto"},
}};

/// Indexed by PmuCpuid.
constexpr std::array<const char*, 3> kCpuid{"auto", "hide", "keep"};

template <typename Row, std::size_t N, typename Index>
const Row& at(const std::array<Row, N>& table, Index index) {
  return table[static_cast<std::size_t>(index)];
}

/// The options that one host and guest are tried with.
void add_options(std::vector<Case>& cases, Case row) {
  for (std::size_t off = 0; off < kOff.size(); ++off) {
    row.off = static_cast<PmuOff>(off);
    for (std::size_t cpuid = 0; cpuid < kCpuid.size(); ++cpuid) {
      row.cpuid = static_cast<PmuCpuid>(cpuid);
      for (const bool strict : {false, true}) {
        row.strict = strict;
        if (row.has_plugin() || (!strict && cpuid == 0)) cases.push_back(row);
      }
    }
  }
}

void add_guests(std::vector<Case>& cases, Case row) {
  for (std::size_t vendor = 0; vendor < kVendors.size(); ++vendor) {
    row.vendor = static_cast<VendorPair>(vendor);
    for (const Guest& guest : kGuests) {
      row.guest = guest.pmu;
      row.claimed = guest.claimed;
      add_options(cases, row);
    }
  }
}

}  // namespace

std::string Case::kvm_spec() const {
  return fmt::format("sim:{}{}{}{}", kernel, at(kVariants, variant).switches,
                     at(kVendors, vendor).switches, enable_pmu ? "" : ",enable_pmu=N");
}

std::string Case::cpuid_model() const {
  const std::string pmu = guest == GuestPmu::plain  ? "plain"
                          : guest == GuestPmu::core ? "core"
                                                    : fmt::format("v2={}", claimed);
  return pmu + at(kVendors, vendor).model;
}

std::string Case::options() const {
  return fmt::format("{},pmu-cpuid={},strict={},log-level=info", at(kOff, off).options,
                     at(kCpuid, cpuid), strict ? "on" : "off");
}

uint32_t Case::guest_pmu() const { return at(kOff, off).guest_pmu; }

std::string Case::host() const {
  return fmt::format("{}{}{}", kernel, at(kVariants, variant).switches,
                     at(kVariants, variant).beside);
}

std::string_view Case::vendor_word() const { return at(kVendors, vendor).word; }

std::string_view Case::off_word() const { return at(kOff, off).word; }

std::string Case::name() const {
  const std::string model = cpuid_model();
  return fmt::format("{} enable_pmu={} {} {} {}{}{}", host(), enable_pmu ? "Y" : "N", vendor_word(),
                     model.substr(0, model.find(',')), off_word(),
                     cpuid == PmuCpuid::automatic ? "" : fmt::format(" {}", at(kCpuid, cpuid)),
                     strict ? " strict" : "");
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const std::string_view kernel : kKernels)
    for (std::size_t variant = 0; variant < kVariants.size(); ++variant)
      for (const bool enable_pmu : {true, false}) {
        Case row;
        row.kernel = kernel;
        row.variant = static_cast<HostVariant>(variant);
        row.enable_pmu = enable_pmu;
        add_guests(cases, row);
      }
  return cases;
}

}  // namespace host_stub::matrix
