// SPDX-License-Identifier: MIT
//
// What the interposed ioctl and close do: follows the life of VMs and vCPUs and calls the plugins'
// hooks. Which ioctls it looks at is one table in interposer.cpp.
//
// The VMM's buffers are never written, but for one: what KVM_GET_SUPPORTED_CPUID has just filled
// loses the bits that plugins hide. Its results are never changed, but for calls that are failed on
// purpose: KVM_CREATE_VM that a plugin refuses, KVM_X86_SET_MSR_FILTER that has no room left,
// KVM_CREATE_VCPU whose kvm_run cannot be mapped. errno is what the real call left.
#pragma once

#include <cstdint>
#include <string>

#include "host_preload/kvm_call.hpp"
#include "host_preload/loading.hpp"
#include "host_preload/plugin_calls.hpp"
#include "host_preload/preload_log.hpp"
#include "host_preload/vcpu_resets.hpp"
#include "host_preload/vm_life.hpp"
#include "host_preload/vm_registry.hpp"

namespace host_preload {

class Interposer {
 public:
  /// `library_folder`: where the preload library is, absolute.
  explicit Interposer(std::string library_folder);

  /// An ioctl of KVM's type (0xAE).
  int kvm_ioctl(int fd, uint32_t number, unsigned long request, void* arg) noexcept;

  /// The process is about to close a descriptor that peek() knows.
  void closing(int fd) noexcept;
  bool knows(int fd) const noexcept { return registry_.peek(fd) != nullptr; }

 private:
  struct Row;
  static const Row* row_of(uint32_t number) noexcept;

  int run(int fd, unsigned long request, void* arg) noexcept;
  int intercept(const Row& row, KvmCall call) noexcept;

  // before the real call: it may get a copy of the VMM's argument. False: it is not made.
  bool merge_filter(KvmCall& call) noexcept;
  bool keep_cap(KvmCall& call) noexcept;
  bool hide_cpuid(KvmCall& call) noexcept;

  // after it, where it succeeded
  void vm_made(KvmCall& call) noexcept { vm_life_.vm_made(call); }
  void vcpu_made(KvmCall& call) noexcept { vm_life_.vcpu_made(call); }
  void filter_set(KvmCall& call) noexcept;
  void cap_enabled(KvmCall& call) noexcept;
  void supported_cpuid_got(KvmCall& call) noexcept;
  void cpuid_set(KvmCall& call) noexcept;
  void state_set(KvmCall& call) noexcept;

  // after it, where it failed
  void vcpu_not_made(KvmCall& call) noexcept { vm_life_.vcpu_not_made(call); }

  PreloadLog log_;
  VmRegistry registry_{log_};
  PluginCalls plugin_calls_{log_};
  Loading loading_;
  VmLife vm_life_{registry_, loading_, log_};
  VcpuResets resets_{log_};
};

}  // namespace host_preload
