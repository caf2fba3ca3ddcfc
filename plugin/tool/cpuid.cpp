// SPDX-License-Identifier: MIT
#include "tool/cpuid.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>

#include "host_kit/cpuid_table.hpp"

namespace svm_pmu::tool {
namespace {

constexpr uint32_t kMaxEntries = 256;

/// kvm_cpuid2 as KVM takes it.
struct Request {
  vmm_kvm_cpuid2_header header;
  std::array<kvm_cpuid_entry2, kMaxEntries> entries;
};
static_assert(offsetof(Request, entries) == sizeof(vmm_kvm_cpuid2_header));

}  // namespace

tl::expected<Cpuid, std::string> Cpuid::supported(Kvm& kvm) {
  const auto request = std::make_unique<Request>();
  request->header.nent = kMaxEntries;
  if (const int32_t result = kvm.ioctl(VMM_KVM_GET_SUPPORTED_CPUID, request.get()); result < 0)
    return tl::unexpected(
        fmt::format("KVM_GET_SUPPORTED_CPUID failed: {}", std::strerror(-result)));
  Cpuid cpuid;
  cpuid.entries_.assign(request->entries.begin(),
                        request->entries.begin() + std::min(request->header.nent, kMaxEntries));
  return cpuid;
}

int32_t Cpuid::apply(Vcpu& vcpu) const {
  const auto request = std::make_unique<Request>();
  request->header.nent = static_cast<uint32_t>(entries_.size());
  std::copy(entries_.begin(), entries_.end(), request->entries.begin());
  return vcpu.ioctl(VMM_KVM_SET_CPUID2, request.get());
}

CpuidAnswer Cpuid::lookup(uint32_t leaf, uint32_t subleaf) const {
  for (const kvm_cpuid_entry2& entry : entries_) {
    if (host_kit::is_leaf(entry, leaf, subleaf))
      return {entry.eax, entry.ebx, entry.ecx, entry.edx};
  }
  return {};
}

std::string Cpuid::vendor() const {
  const auto [eax, ebx, ecx, edx] = lookup(0, 0);
  std::string vendor;
  for (const uint32_t word : {ebx, edx, ecx})
    for (int shift = 0; shift < 32; shift += 8) vendor += static_cast<char>(word >> shift & 0xff);
  return vendor;
}

}  // namespace svm_pmu::tool
