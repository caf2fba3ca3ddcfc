// SPDX-License-Identifier: MIT
//
// VMs and vCPUs that the VMM makes: each gets its plugins, or is refused.
#pragma once

#include <cstdint>
#include <optional>

#include "host_preload/kvm_call.hpp"
#include "host_preload/loading.hpp"
#include "host_preload/preload_log.hpp"
#include "host_preload/vm_registry.hpp"

namespace host_preload {

class VmLife {
 public:
  VmLife(VmRegistry& registry, Loading& loading, PreloadLog& log) noexcept
      : registry_(registry), loading_(loading), log_(log) {}

  /// After a successful KVM_CREATE_VM: calls vm_created, or closes the VM and fails the call.
  void vm_made(KvmCall& call) noexcept;

  /// After a successful KVM_CREATE_VCPU: follows the vCPU, or closes it and fails the call.
  void vcpu_made(KvmCall& call) noexcept;

  /// After a failed one: the failure stays, its cause is said where the errno does not tell it.
  void vcpu_not_made(const KvmCall& call) noexcept;

 private:
  struct Refusal {
    int error;
    const char* reason;
  };
  int32_t start_vm(int kvm_fd, int vm_fd);
  void say_ready(const Vm& vm);
  std::optional<Refusal> follow_vcpu(Vm& vm, int vcpu_fd, uint32_t index) noexcept;

  VmRegistry& registry_;
  Loading& loading_;
  PreloadLog& log_;
};

}  // namespace host_preload
