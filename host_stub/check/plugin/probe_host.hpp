// SPDX-License-Identifier: MIT
//
// A host that watches: the raw C table of struct vmm_host, of any size, on a KVM that really works.
// Each callback notes what the contract forbids: which function of the plugin may call it, with
// handles of which VM and vCPU and when, with what arguments. Results can be scripted.
//
// Handles are addresses that nobody may touch, and a vCPU has a new one in each call, so that one
// kept beyond its time is known.
//
// Threads: callbacks on any thread; the rest on one, while no function of the plugin runs.
// Callbacks do not allocate in scripted mode, so that what they do is not taken for the plugin's.
#pragma once

#include <vmm/plugin.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "check/plugin/findings.hpp"
#include "check/plugin/guarded_memory.hpp"
#include "host_kit/abi_struct.hpp"
#include "kvm/kvm.hpp"
#include "stub_vmm/guest_cpuid.hpp"

namespace host_stub::validate {

class ProbeHost;

/// A VM of the host.
struct Machine {
  vmm_vm_handle handle = nullptr;
  uint32_t max_vcpus = 0;
  void* ctx = nullptr;  ///< the plugin's vm_ctx
  std::unique_ptr<Vm> kvm;
  std::vector<std::unique_ptr<Vcpu>> vcpus;  ///< by index; made when first reset
};

/// The function of the plugin that runs on this thread. Marked for as long as the object lives.
class RunningCall {
 public:
  RunningCall(Findings& findings, const char* function, ProbeHost* host, Machine* vm = nullptr,
              vmm_vcpu_handle vcpu = nullptr);
  ~RunningCall();
  RunningCall(const RunningCall&) = delete;
  RunningCall& operator=(const RunningCall&) = delete;

  const char* function;
  ProbeHost* host;
  Machine* vm;
  vmm_vcpu_handle vcpu;

 private:
  Findings& findings_;
  RunningCall* outer_;
};

/// What a host's script may look at before it answers an ioctl in KVM's stead.
struct Ioctl {
  bool on_vcpu;
  uint32_t request;
  void* arg;
};
using IoctlScript = std::function<std::optional<int32_t>(const Ioctl&)>;

class ProbeHost {
 public:
  static constexpr uint32_t kFullSize = sizeof(vmm_host);
  /// Up to and with `log`: what every host has.
  static constexpr uint32_t kLeastSize = host_kit::kHostSizeV1_0;

  /// `kvm` nullptr: scripted mode, where no KVM is asked and nothing is allocated in callbacks; an
  /// ioctl that the script leaves open succeeds.
  ProbeHost(Findings& findings, Kvm* kvm);
  ~ProbeHost();
  ProbeHost(const ProbeHost&) = delete;
  ProbeHost& operator=(const ProbeHost&) = delete;

  /// The table to edit, before it is lent.
  vmm_host table{};
  /// The first `size` bytes of the table in guarded memory; `beyond` is in what it has more.
  /// Lends anew each time; `struct_size` says `size`.
  const vmm_host* lend(std::size_t size = kFullSize, std::byte beyond = kGarbage);
  /// The instance is gone: the table is closed, and a callback from now on is a breach.
  void end() noexcept;

  /// What guests see: what this KVM supports. A host with a KVM has its own from the beginning.
  void take_cpuid_of(Kvm& kvm);

  // ---- VMs and handles
  std::unique_ptr<Machine> make_vm(uint32_t max_vcpus);
  /// A new handle for a vCPU, valid until drop(). The vCPU is made with the host's CPUID if it is
  /// not there yet.
  vmm_vcpu_handle vcpu_handle(Machine& vm, uint32_t index);
  void drop(vmm_vm_handle handle) noexcept;
  void drop(vmm_vcpu_handle handle) noexcept;

  // ---- script; to be set while no function of the plugin runs
  int32_t register_result = 0;
  IoctlScript script;
  bool knows_cpuid = true;

  // ---- what was seen
  vmm_hooks hooks{};  ///< as registered last
  void* hooks_ctx = nullptr;
  std::atomic<uint32_t> registrations{0};   ///< that were accepted
  std::atomic<uint32_t> register_calls{0};  ///< of any result
  std::atomic<uint32_t> ioctls{0};
  std::atomic<uint32_t> vcpu_ioctls{0};
  std::atomic<uint32_t> log_lines{0};
  std::atomic<uint32_t> cpuid_calls{0};
  std::atomic<uint32_t> deny_calls{0};
  std::atomic<uint32_t> hide_calls{0};
  std::atomic<uint32_t> calls{0};  ///< of any callback
  /// Requests of vCPU ioctls, the first ones.
  std::array<uint32_t, 64> vcpu_requests{};

 private:
  /// What get_cpuid does not show, of all VMs.
  std::mutex hidden_mutex_;
  std::vector<std::pair<vmm_vm_handle, vmm_cpuid_bits>> hidden_;

  struct Handle {
    std::atomic<bool> valid{false};
    const Machine* vm = nullptr;
    Vm* kvm_vm = nullptr;
    Vcpu* kvm_vcpu = nullptr;
  };
  struct Thunks;
  static constexpr std::size_t kHandles = 1 << 14;

  void* new_handle(const Machine& vm, Vm* kvm_vm, Vcpu* kvm_vcpu);
  Handle* find(const void* handle) noexcept;
  int32_t tell_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t* registers) const noexcept;
  bool may_call(const char* callback, bool in_create, bool in_destroy) noexcept;
  Handle* check_vm(const char* callback, vmm_vm_handle handle) noexcept;
  Handle* check_vcpu(const char* callback, vmm_vcpu_handle handle) noexcept;
  void check_request(const Ioctl& call) noexcept;
  int32_t answer(const Ioctl& call, Handle& handle);

  Findings& findings_;
  Kvm* kvm_;
  std::optional<GuestCpuidTable> cpuid_;
  std::vector<std::unique_ptr<Guarded<vmm_host>>> lent_;
  GuardedMemory handle_space_;
  std::vector<Handle> handles_;
  std::atomic<uint32_t> next_handle_{1};
  std::atomic<bool> ended_{false};
};

/// True for well-formed UTF-8: no overlong forms, no surrogates, at most U+10FFFF.
bool is_utf8(std::string_view text) noexcept;

}  // namespace host_stub::validate
