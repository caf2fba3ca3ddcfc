// SPDX-License-Identifier: MIT
#include "stub_vmm/guest_cpuid.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>

namespace host_stub {
namespace {

constexpr std::size_t kMaxEntries = 256;

/// kvm_cpuid2 as KVM takes it.
struct Request {
  vmm_kvm_cpuid2_header header;
  std::array<kvm_cpuid_entry2, kMaxEntries> entries;
};
static_assert(offsetof(Request, entries) == sizeof(vmm_kvm_cpuid2_header));

struct VendorRegisters {
  CpuidModel::Vendor vendor;
  const char* word;
  uint32_t ebx, ecx, edx;
};
constexpr VendorRegisters kVendors[] = {
    {CpuidModel::Vendor::amd, "amd", 0x68747541, 0x444d4163, 0x69746e65},
    {CpuidModel::Vendor::hygon, "hygon", 0x6f677948, 0x656e6975, 0x6e65476e},
    {CpuidModel::Vendor::intel, "intel", 0x756e6547, 0x6c65746e, 0x49656e69},
};

struct PmuWord {
  CpuidModel::Pmu pmu;
  const char* word;
};
constexpr PmuWord kPmuWords[] = {{CpuidModel::Pmu::host, "host"},
                                 {CpuidModel::Pmu::plain, "plain"},
                                 {CpuidModel::Pmu::core, "core"},
                                 {CpuidModel::Pmu::v2, "v2"},
                                 {CpuidModel::Pmu::v2_only, "v2-only"}};

bool has_core(CpuidModel::Pmu pmu) {
  return pmu == CpuidModel::Pmu::core || pmu == CpuidModel::Pmu::v2;
}

bool has_v2(CpuidModel::Pmu pmu) {
  return pmu == CpuidModel::Pmu::v2 || pmu == CpuidModel::Pmu::v2_only;
}

tl::unexpected<std::string> bad_model(std::string_view text) {
  return tl::unexpected(
      fmt::format("guest CPUID '{}': allowed are host, plain, core, v2 or v2=N (N 0 to 15 "
                  "counters), v2-only or "
                  "v2-only=N, each optionally followed by ,vendor=amd|hygon|intel",
                  text));
}

kvm_cpuid_entry2& leaf(std::vector<kvm_cpuid_entry2>& entries, uint32_t function) {
  const auto found = std::find_if(entries.begin(), entries.end(), [&](const kvm_cpuid_entry2& e) {
    return e.function == function && e.index == 0;
  });
  if (found != entries.end()) return *found;
  kvm_cpuid_entry2 entry{};
  entry.function = function;
  return entries.emplace_back(entry);
}

void set_vendor(std::vector<kvm_cpuid_entry2>& entries, CpuidModel::Vendor vendor) {
  for (const VendorRegisters& row : kVendors) {
    if (row.vendor != vendor) continue;
    for (const uint32_t function : {0u, 0x80000000u}) {
      kvm_cpuid_entry2& entry = leaf(entries, function);
      entry.ebx = row.ebx;
      entry.ecx = row.ecx;
      entry.edx = row.edx;
    }
  }
}

void set_pmu(std::vector<kvm_cpuid_entry2>& entries, const CpuidModel& model) {
  if (model.pmu == CpuidModel::Pmu::host) return;
  constexpr uint32_t kPerfCtrExtCore = 1u << 23;
  kvm_cpuid_entry2& features = leaf(entries, 0x80000001);
  features.ecx &= ~kPerfCtrExtCore;
  if (has_core(model.pmu)) features.ecx |= kPerfCtrExtCore;
  kvm_cpuid_entry2& perfmon = leaf(entries, 0x80000022);
  perfmon.eax &= ~1u;
  perfmon.ebx &= ~0xfu;
  if (!has_v2(model.pmu)) return;
  perfmon.eax |= 1;
  perfmon.ebx |= model.counters;
  kvm_cpuid_entry2& highest = leaf(entries, 0x80000000);
  highest.eax = std::max(highest.eax, 0x80000022u);
}

}  // namespace

tl::expected<CpuidModel, std::string> CpuidModel::parse(std::string_view text) {
  CpuidModel model;
  const std::size_t comma = text.find(',');
  std::string_view pmu = text.substr(0, comma);
  if (comma != std::string_view::npos) {
    constexpr std::string_view kKey = "vendor=";
    const std::string_view rest = text.substr(comma + 1);
    const auto* found =
        std::find_if(std::begin(kVendors), std::end(kVendors), [&](const VendorRegisters& row) {
          return rest.substr(0, kKey.size()) == kKey && rest.substr(kKey.size()) == row.word;
        });
    if (found == std::end(kVendors)) return bad_model(text);
    model.vendor = found->vendor;
  }
  if (const std::size_t equals = pmu.find('='); equals != std::string_view::npos) {
    const std::string_view number = pmu.substr(equals + 1);
    const auto [end, error] =
        std::from_chars(number.data(), number.data() + number.size(), model.counters);
    if (error != std::errc{} || end != number.data() + number.size() || model.counters > 15)
      return bad_model(text);
    pmu = pmu.substr(0, equals);
    if (pmu != "v2" && pmu != "v2-only") return bad_model(text);
  }
  const auto* found = std::find_if(std::begin(kPmuWords), std::end(kPmuWords),
                                   [&](const PmuWord& row) { return row.word == pmu; });
  if (found == std::end(kPmuWords)) return bad_model(text);
  model.pmu = found->pmu;
  return model;
}

tl::expected<GuestCpuidTable, std::string> GuestCpuidTable::make(Kvm& kvm,
                                                                 const CpuidModel& model) {
  const auto request = std::make_unique<Request>();
  request->header.nent = kMaxEntries;
  const int32_t result = kvm.ioctl(VMM_KVM_GET_SUPPORTED_CPUID, request.get());
  if (result < 0)
    return tl::unexpected(
        fmt::format("KVM_GET_SUPPORTED_CPUID failed: {}", std::strerror(-result)));
  GuestCpuidTable table;
  table.entries_.assign(request->entries.begin(), request->entries.begin() + request->header.nent);
  set_vendor(table.entries_, model.vendor);
  set_pmu(table.entries_, model);
  return table;
}

void GuestCpuidTable::hide(std::span<const vmm_cpuid_bits> bits) {
  for (kvm_cpuid_entry2& entry : entries_) {
    const bool indexed = (entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0;
    const std::array registers{&entry.eax, &entry.ebx, &entry.ecx, &entry.edx};  // by VMM_CPUID_*
    for (const vmm_cpuid_bits& one : bits)
      if (one.leaf == entry.function && (!indexed || one.subleaf == entry.index))
        *registers[one.reg] &= ~one.mask;
  }
}

int32_t GuestCpuidTable::apply(Vcpu& vcpu) const {
  if (entries_.size() > kMaxEntries) return -E2BIG;
  const auto request = std::make_unique<Request>();
  request->header.nent = static_cast<uint32_t>(entries_.size());
  std::copy(entries_.begin(), entries_.end(), request->entries.begin());
  return vcpu.ioctl(VMM_KVM_SET_CPUID2, request.get());
}

CpuidResult GuestCpuidTable::lookup(uint32_t function, uint32_t subleaf) const {
  for (const kvm_cpuid_entry2& entry : entries_) {
    const bool indexed = (entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0;
    if (entry.function == function && (!indexed || entry.index == subleaf))
      return {entry.eax, entry.ebx, entry.ecx, entry.edx};
  }
  return {};
}

}  // namespace host_stub
