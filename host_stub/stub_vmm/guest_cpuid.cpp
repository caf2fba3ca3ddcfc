// SPDX-License-Identifier: MIT
#include "stub_vmm/guest_cpuid.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <new>
#include <vector>

#include "host_kit/hidden_cpuid.hpp"

namespace host_stub {
namespace {

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
  return tl::unexpected(fmt::format(
      "guest CPUID '{}': allowed are host, plain, core, v2 or v2=N (N 0 to 15 counters), v2-only "
      "or v2-only=N, each optionally followed by ,vendor=amd|hygon|intel",
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
  GuestCpuidTable guest;
  const int32_t result = guest.table_.read_supported(
      [&](uint32_t request, void* arg) { return kvm.ioctl(request, arg); });
  if (result < 0)
    return tl::unexpected(
        fmt::format("KVM_GET_SUPPORTED_CPUID failed: {}", std::strerror(-result)));
  const auto supported = guest.table_.entries();
  std::vector<kvm_cpuid_entry2> entries(supported.begin(), supported.end());
  set_vendor(entries, model.vendor);
  set_pmu(entries, model);
  guest.table_.assign(entries);
  return guest;
}

int32_t GuestCpuidTable::hide(std::span<const vmm_cpuid_bits> bits) noexcept try {
  host_kit::HiddenCpuid hidden;
  const int32_t result = hidden.add(bits);
  if (result == 0) hidden.clear_in(table_.entries());
  return result;
} catch (const std::bad_alloc&) {
  return -ENOSPC;
}

int32_t GuestCpuidTable::apply(Vcpu& vcpu) const {
  return table_.apply([&](uint32_t request, void* arg) { return vcpu.ioctl(request, arg); });
}

CpuidResult GuestCpuidTable::lookup(uint32_t function, uint32_t subleaf) const {
  const auto [eax, ebx, ecx, edx] = table_.lookup(function, subleaf);
  return {eax, ebx, ecx, edx};
}

}  // namespace host_stub
