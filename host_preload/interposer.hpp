// SPDX-License-Identifier: MIT
//
// What the interposed ioctl and close do: follows the life of VMs and vCPUs, calls the plugins'
// hooks, and is their host.
//
// The VMM's buffers are never written and its results never changed, but for calls that are failed
// on purpose: KVM_CREATE_VM that a plugin refuses, KVM_X86_SET_MSR_FILTER that has no room left,
// KVM_CREATE_VCPU whose kvm_run cannot be mapped. errno is what the real call left.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <string>

#include "host_kit/host.hpp"
#include "host_kit/plugin_set.hpp"
#include "host_preload/config.hpp"
#include "host_preload/preload_log.hpp"
#include "host_preload/vm_registry.hpp"

namespace host_preload {

class Interposer final : public host_kit::Host {
 public:
  /// `library_folder`: where the preload library is, absolute.
  explicit Interposer(std::string library_folder);

  /// An ioctl of KVM's type (0xAE).
  int kvm_ioctl(int fd, uint32_t number, unsigned long request, void* arg) noexcept;

  /// The process is about to close a descriptor that peek() knows.
  void closing(int fd) noexcept;
  bool knows(int fd) const noexcept { return registry_.peek(fd) != nullptr; }

  // host_kit::Host
  const char* name() const noexcept override;
  int32_t vm_ioctl(vmm_vm_handle vm, uint32_t request, void* arg) noexcept override;
  int32_t vcpu_ioctl(vmm_vcpu_handle vcpu, uint32_t request, void* arg) noexcept override;
  void log(uint32_t level, std::string_view source, std::string_view message) noexcept override;
  int32_t get_cpuid(vmm_vm_handle handle, vmm_vcpu_handle vcpu_handle, uint32_t leaf,
                    uint32_t subleaf, std::span<uint32_t, 4> registers) noexcept override;
  bool has_msr_filter() const noexcept override { return true; }
  int32_t deny_msrs(vmm_vm_handle handle, std::span<const vmm_msr_range> ranges) noexcept override;

 private:
  enum class Mode : uint8_t {
    waiting,  ///< the process has not used KVM yet; nothing is loaded
    loading,  ///< one thread is at it
    active,
    inert,  ///< the VMM calls the hooks itself
  };

  // loading
  void ensure_loaded() noexcept;
  Mode load() noexcept;
  void ensure_process();

  // the VMM's calls
  int create_vm(int fd, unsigned long request, void* arg) noexcept;
  int create_vcpu(int fd, unsigned long request, void* arg) noexcept;
  int set_msr_filter(int fd, unsigned long request, void* arg) noexcept;
  int vcpu_state(int fd, uint32_t number, unsigned long request, void* arg) noexcept;
  int run(int fd, unsigned long request, void* arg) noexcept;

  // what they lead to
  int32_t start_vm(int kvm_fd, int fd);
  int32_t refuse_by_problems(int fd) noexcept;
  bool answer_msr_exit(Vcpu& vcpu, kvm_run& run) noexcept;
  void observe(Vcpu& vcpu, int fd, VcpuEvent event) noexcept;
  void reset(Vcpu& vcpu, int fd, ResetAction action) noexcept;
  int32_t install_filter(const Vm& vm, int fd, const kvm_msr_filter& vmm_filter,
                         const DenyList& denied) noexcept;

  const std::string library_folder_;
  std::atomic<Mode> mode_{Mode::waiting};
  std::atomic<pid_t> process_{0};  ///< that the state below is of
  Config config_;
  int log_result_ = 0;  ///< of PreloadLog::open, until it was said
  PreloadLog log_;
  VmRegistry registry_{log_};
  host_kit::PluginSet plugins_{*this};
};

}  // namespace host_preload
