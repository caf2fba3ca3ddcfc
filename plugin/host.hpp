// SPDX-License-Identifier: MIT
//
// The host, as the plugin sees it: the checked table of vmm/plugin.h and a log with a threshold.
// All of it is S2 safe.
#pragma once

#include <vmm/plugin.h>

#include <cstdint>
#include <optional>
#include <span>

#include "error.hpp"

namespace svm_pmu {

/// What CPUID returns for one leaf.
struct CpuidRegisters {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

class Host {
 public:
  /// Checks and copies a host's table (as much of it as this version knows). Error: -EINVAL, naming
  /// the field.
  static Expected<Host> from(const vmm_host* table) noexcept;

  const vmm_host& table() const noexcept { return table_; }
  void set_log_level(uint32_t level) noexcept { log_level_ = level; }

  void log(uint32_t level, const Text& line) const noexcept;

  /// ioctls on a VM or vCPU; EINTR is repeated, a bounded number of times. >= 0 or a negated errno.
  int32_t vm_ioctl(vmm_vm_handle vm, uint32_t request, void* arg) const noexcept;
  int32_t vcpu_ioctl(vmm_vcpu_handle vcpu, uint32_t request, void* arg) const noexcept;

  /// The guest's CPUID; nothing if the host does not know it. `vcpu` may be nullptr.
  std::optional<CpuidRegisters> cpuid(vmm_vm_handle vm, vmm_vcpu_handle vcpu, uint32_t leaf,
                                      uint32_t subleaf = 0) const noexcept;

  /// What KVM supports, before anything is hidden; nothing if the host does not know it.
  std::optional<CpuidRegisters> supported_cpuid(vmm_vm_handle vm, uint32_t leaf) const noexcept;

  /// VMM_GUEST_PMU_*: what the VMM was told; nothing if the host has no vmm.guest_pmu/1.
  std::optional<uint32_t> guest_pmu(vmm_vm_handle vm) const noexcept;

  /// hide_cpuid; -EOPNOTSUPP if the host has none.
  int32_t hide_cpuid(vmm_vm_handle vm, std::span<const vmm_cpuid_bits> bits) const noexcept;

  /// Whether the host denies MSRs by a filter of its own.
  bool has_msr_filter() const noexcept { return table_.deny_msrs != nullptr; }

 private:
  Host() = default;
  vmm_host table_{};
  uint32_t log_level_ = VMM_LOG_WARNING;
};

}  // namespace svm_pmu
