// SPDX-License-Identifier: MIT
//
// What a host must be able to do for its plugins: the C++ face of struct vmm_host. A host derives
// from Host; host_kit makes the C table with its thunks from it.
//
// Threads: every function may be called on any thread, from several at once. They are S2 safe if
// the host filters system calls on its vCPU threads (sandbox levels: vmm/plugin.h).
// Errors: 0 or more is success, otherwise a negated errno. Nothing throws.
#pragma once

#include <vmm/guest_pmu.h>
#include <vmm/plugin.h>

#include <cerrno>
#include <cstdint>
#include <span>
#include <string_view>

namespace host_kit {

/// No errno of Linux is above this (MAX_ERRNO); a result below its negation is no errno at all.
constexpr int32_t kMaxErrno = 4095;

class Host {
 public:
  virtual ~Host() = default;

  /// For log lines of plugins, "host_stub 1.0.0"; constant.
  virtual const char* name() const noexcept = 0;

  virtual int32_t vm_ioctl(vmm_vm_handle vm, uint32_t request, void* arg) noexcept = 0;
  virtual int32_t vcpu_ioctl(vmm_vcpu_handle vcpu, uint32_t request, void* arg) noexcept = 0;

  /// A finished line. `source` is the plugin's name, or "host_kit" for what host_kit has to say.
  virtual void log(uint32_t level, std::string_view source, std::string_view message) noexcept = 0;

  /// The guest's CPUID; -ENOENT while it is not known. `vcpu` may be nullptr.
  virtual int32_t get_cpuid(vmm_vm_handle, vmm_vcpu_handle /*vcpu*/, uint32_t /*leaf*/,
                            uint32_t /*subleaf*/,
                            std::span<uint32_t, 4> /*eax_ebx_ecx_edx*/) noexcept {
    return -ENOENT;
  }

  /// True: plugins get deny_msrs instead of setting an MSR filter of their own.
  virtual bool has_msr_filter() const noexcept { return false; }
  virtual int32_t deny_msrs(vmm_vm_handle, std::span<const vmm_msr_range>) noexcept {
    return -EOPNOTSUPP;
  }

  /// True: plugins get hide_cpuid. A host says so only if each KVM_SET_CPUID2 of the VM's vCPUs
  /// passes through its hands.
  virtual bool has_cpuid_hiding() const noexcept { return false; }
  /// `bits` have been checked: each has a register of CPUID and a mask.
  virtual int32_t hide_cpuid(vmm_vm_handle, std::span<const vmm_cpuid_bits>) noexcept {
    return -EOPNOTSUPP;
  }

  /// What KVM_GET_SUPPORTED_CPUID says, before any bit is hidden; -ENOENT where it is not known.
  virtual int32_t get_supported_cpuid(vmm_vm_handle, uint32_t /*leaf*/, uint32_t /*subleaf*/,
                                      std::span<uint32_t, 4> /*eax_ebx_ecx_edx*/) noexcept {
    return -ENOENT;
  }

  /// What the VMM was told about the guest's PMU: VMM_GUEST_PMU_*.
  virtual uint32_t guest_pmu_wanted(vmm_vm_handle) noexcept { return VMM_GUEST_PMU_UNSAID; }
};

/// "error", "warning", "info" or "debug".
std::string_view log_level_name(uint32_t level) noexcept;

}  // namespace host_kit
