// SPDX-License-Identifier: MIT
//
// What the plugins may call: the callbacks of their host.
#pragma once

#include "host_kit/host.hpp"
#include "host_preload/preload_log.hpp"

namespace host_preload {

class PluginCalls final : public host_kit::Host {
 public:
  explicit PluginCalls(PreloadLog& log) noexcept : log_(log) {}

  const char* name() const noexcept override;
  int32_t vm_ioctl(vmm_vm_handle handle, uint32_t request, void* arg) noexcept override;
  int32_t vcpu_ioctl(vmm_vcpu_handle vcpu, uint32_t request, void* arg) noexcept override;
  void log(uint32_t level, std::string_view source, std::string_view message) noexcept override;
  int32_t get_cpuid(vmm_vm_handle handle, vmm_vcpu_handle vcpu_handle, uint32_t leaf,
                    uint32_t subleaf, std::span<uint32_t, 4> registers) noexcept override;
  bool has_msr_filter() const noexcept override { return true; }
  int32_t deny_msrs(vmm_vm_handle handle, std::span<const vmm_msr_range> ranges) noexcept override;

  bool has_cpuid_hiding() const noexcept override { return true; }
  int32_t hide_cpuid(vmm_vm_handle handle, std::span<const vmm_cpuid_bits> bits) noexcept override;
  int32_t get_supported_cpuid(vmm_vm_handle handle, uint32_t leaf, uint32_t subleaf,
                              std::span<uint32_t, 4> registers) noexcept override;
  uint32_t guest_pmu_wanted(vmm_vm_handle handle) noexcept override;

 private:
  PreloadLog& log_;
};

}  // namespace host_preload
