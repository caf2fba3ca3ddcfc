// SPDX-License-Identifier: MIT
#include "tool/cpuid.hpp"

#include <fmt/format.h>

#include <cstring>

namespace svm_pmu::tool {

tl::expected<host_kit::CpuidTable, std::string> supported_cpuid(Kvm& kvm) {
  host_kit::CpuidTable table;
  const int32_t result =
      table.read_supported([&](uint32_t request, void* arg) { return kvm.ioctl(request, arg); });
  if (result >= 0) return table;
  return tl::unexpected(fmt::format("KVM_GET_SUPPORTED_CPUID failed: {}", std::strerror(-result)));
}

int32_t set_cpuid(Vcpu& vcpu, const host_kit::CpuidTable& table) {
  return table.apply([&](uint32_t request, void* arg) { return vcpu.ioctl(request, arg); });
}

std::string vendor_of(const host_kit::CpuidTable& table) {
  const auto [eax, ebx, ecx, edx] = table.lookup(0, 0);
  std::string vendor;
  for (const uint32_t word : {ebx, edx, ecx})
    for (int shift = 0; shift < 32; shift += 8) vendor += static_cast<char>(word >> shift & 0xff);
  return vendor;
}

}  // namespace svm_pmu::tool
