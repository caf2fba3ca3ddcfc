// SPDX-License-Identifier: MIT
#include "host.hpp"

#include <vmm/guest_pmu.h>

#include <cerrno>

#include "abi_struct.hpp"

namespace svm_pmu {
namespace {

/// A host that always says EINTR must not hang a vCPU.
constexpr int kMaxInterrupts = 1000;

template <typename Call>
int32_t without_eintr(Call call) noexcept {
  int32_t result = -EINTR;
  for (int i = 0; i <= kMaxInterrupts && result == -EINTR; ++i) result = call();
  return result;
}

}  // namespace

Expected<Host> Host::from(const vmm_host* table) noexcept {
  if (table == nullptr) return fail(-EINVAL, Text("the host's table is NULL"));
  // struct_size and abi_major begin every version there can be
  if (table->struct_size >= 2 * sizeof(uint32_t) && table->abi_major != VMM_PLUGIN_ABI_MAJOR)
    return fail(-EINVAL, Text() << "the host speaks ABI major " << table->abi_major
                                << ", this plugin needs " << VMM_PLUGIN_ABI_MAJOR);
  Host host;
  if (!copy_struct(host.table_, table))
    return fail(-EINVAL, Text() << "the host's table has " << table->struct_size
                                << " bytes, ABI 1.0 needs " << kSizeV1_0<vmm_host>);
  const struct {
    const char* name;
    bool present;
  } required[] = {{"name", host.table_.name != nullptr},
                  {"register_hooks", host.table_.register_hooks != nullptr},
                  {"vm_ioctl", host.table_.vm_ioctl != nullptr},
                  {"vcpu_ioctl", host.table_.vcpu_ioctl != nullptr},
                  {"log", host.table_.log != nullptr}};
  for (const auto& field : required)
    if (!field.present)
      return fail(-EINVAL,
                  Text() << "the field '" << field.name << "' of the host's table is NULL");
  return host;
}

void Host::log(uint32_t level, const Text& line) const noexcept {
  if (level > log_level_) return;
  table_.log(table_.host_ctx, level, line.c_str(), line.view().size());
}

int32_t Host::vm_ioctl(vmm_vm_handle vm, uint32_t request, void* arg) const noexcept {
  return without_eintr([&] { return table_.vm_ioctl(table_.host_ctx, vm, request, arg); });
}

int32_t Host::vcpu_ioctl(vmm_vcpu_handle vcpu, uint32_t request, void* arg) const noexcept {
  return without_eintr([&] { return table_.vcpu_ioctl(table_.host_ctx, vcpu, request, arg); });
}

std::optional<CpuidRegisters> Host::cpuid(vmm_vm_handle vm, vmm_vcpu_handle vcpu, uint32_t leaf,
                                          uint32_t subleaf) const noexcept {
  if (table_.get_cpuid == nullptr) return std::nullopt;
  uint32_t out[4] = {};
  if (table_.get_cpuid(table_.host_ctx, vm, vcpu, leaf, subleaf, out) != 0) return std::nullopt;
  return CpuidRegisters{out[0], out[1], out[2], out[3]};
}

std::optional<CpuidRegisters> Host::supported_cpuid(vmm_vm_handle vm,
                                                    uint32_t leaf) const noexcept {
  if (table_.get_supported_cpuid == nullptr) return std::nullopt;
  uint32_t out[4] = {};
  if (table_.get_supported_cpuid(table_.host_ctx, vm, leaf, 0, out) != 0) return std::nullopt;
  return CpuidRegisters{out[0], out[1], out[2], out[3]};
}

std::optional<uint32_t> Host::guest_pmu(vmm_vm_handle vm) const noexcept {
  if (table_.get_extension == nullptr) return std::nullopt;
  const auto* found =
      static_cast<const vmm_guest_pmu*>(table_.get_extension(table_.host_ctx, VMM_GUEST_PMU_ID));
  vmm_guest_pmu pmu;
  if (!copy_struct(pmu, found) || pmu.wanted == nullptr) return std::nullopt;
  return pmu.wanted(table_.host_ctx, vm);
}

int32_t Host::hide_cpuid(vmm_vm_handle vm, std::span<const vmm_cpuid_bits> bits) const noexcept {
  if (table_.hide_cpuid == nullptr) return -EOPNOTSUPP;
  return table_.hide_cpuid(table_.host_ctx, vm, bits.data(), static_cast<uint32_t>(bits.size()));
}

}  // namespace svm_pmu
