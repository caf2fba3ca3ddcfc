// SPDX-License-Identifier: MIT
//
// What the interposer knows of a VM and of its vCPUs: plain state with a count of who uses it.
//
// LIFE
//   An object lives while a file descriptor in the table leads to it, while a vCPU of it lives
//   (Vm), or while a thread works on it. The last one out ends it: the vCPU's mapping is undone,
//   the VM's plugins get vm_destroyed. Its memory goes back to a pool and is never returned to the
//   system, so that KVM_RUN may read a vCPU's state with no count taken at all: at worst, in a VMM
//   that closes a vCPU under a thread that is about to run it, it reads a later vCPU's.
#pragma once

#include <linux/kvm.h>
#include <vmm/plugin.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "host_kit/cpuid_table.hpp"
#include "host_kit/hidden_cpuid.hpp"
#include "host_kit/msr_filter.hpp"
#include "host_kit/plugin_instance.hpp"
#include "host_preload/reset_detector.hpp"
#include "host_preload/status_page.hpp"
#include "host_preload/vmm_command_line.hpp"

namespace host_preload {

using host_kit::CpuidTable;
using host_kit::DenyList;
using host_kit::HiddenCpuid;

/// What a file descriptor leads to.
class KvmObject {
 public:
  enum class Kind : uint8_t {
    vm,
    vcpu,
    foreign,  ///< looked at: nothing of ours
  };

  explicit constexpr KvmObject(Kind which) noexcept : kind(which) {}
  KvmObject(const KvmObject&) = delete;
  KvmObject& operator=(const KvmObject&) = delete;

  /// Counts one more user, unless the object has ended.
  bool try_acquire() noexcept {
    uint32_t users = users_.load(std::memory_order_relaxed);
    while (users != 0)
      if (users_.compare_exchange_weak(users, users + 1, std::memory_order_acquire,
                                       std::memory_order_relaxed))
        return true;
    return false;
  }

  /// One user less. True: that was the last one, and the caller ends the object.
  bool drop() noexcept { return users_.fetch_sub(1, std::memory_order_acq_rel) == 1; }

  /// The first user of an object from the pool; publishes what was written to it before.
  void start() noexcept { users_.store(1, std::memory_order_release); }

  const Kind kind;

 private:
  std::atomic<uint32_t> users_{0};
};

struct Vcpu;

/// Objects that ended, for the next one of their kind.
template <typename T>
class FreeList {
 public:
  FreeList() noexcept = default;
  FreeList(const FreeList&) = delete;
  FreeList& operator=(const FreeList&) = delete;
  ~FreeList() {
    while (first_ != nullptr) delete std::exchange(first_, first_->next_free);
  }

  void push(T* object) noexcept { object->next_free = std::exchange(first_, object); }
  /// May throw bad_alloc.
  T* pop_or_new() { return first_ == nullptr ? new T : std::exchange(first_, first_->next_free); }

 private:
  T* first_ = nullptr;
};

/// A plugin's view of the VM, with the name for log lines.
struct PluginView {
  const host_kit::PluginInstance* instance;
  std::unique_ptr<host_kit::PluginVm> vm;
  const char* said;  ///< the state that the status page shows; guarded by the Vm's mutex
};

struct Vm : KvmObject {
  Vm() noexcept : KvmObject(Kind::vm) {}

  vmm_vm_handle handle() noexcept { return reinterpret_cast<vmm_vm_handle>(this); }
  static Vm& of(vmm_vm_handle handle) noexcept { return *reinterpret_cast<Vm*>(handle); }

  // written before the VM's descriptor is in the table, constant afterwards
  int number = -1;  ///< for log lines: the descriptor that KVM_CREATE_VM returned
  DenyList denied;
  HiddenCpuid hidden;
  CpuidTable supported;  ///< KVM_GET_SUPPORTED_CPUID's answer, nothing hidden
  GuestPmu guest_pmu = GuestPmu::unsaid;
  std::vector<PluginView> plugins;
  bool exits_for_denied = false;  ///< KVM exits for them, so that they are answered by us
  bool pmu_disabled = false;      ///< a plugin set KVM_PMU_CAP_DISABLE
  StatusVm* status = nullptr;     ///< its entry in the status page; nullptr: none

  std::atomic<int> fd{-1};                    ///< a descriptor of it; -1 once that was closed
  std::atomic<bool> answered_an_exit{false};  ///< the first answer is worth a line
  std::atomic<bool> creating{false};          ///< in vm_created
  std::atomic<bool> vmm_wants_exits{false};   ///< for filtered MSRs, by KVM_ENABLE_CAP
  std::atomic<bool> said_busy{false};         ///< why KVM_CREATE_VCPU fails
  std::atomic<bool> said_pmu_kept{false};     ///< that the VMM's KVM_ENABLE_CAP was changed

  std::mutex mutex;          ///< of what follows, and of the vCPUs' CPUID tables
  std::vector<Vcpu*> vcpus;  ///< those that live

  Vm* next_free = nullptr;
};

struct Vcpu : KvmObject {
  Vcpu() : KvmObject(Kind::vcpu) {}

  vmm_vcpu_handle handle() noexcept { return reinterpret_cast<vmm_vcpu_handle>(this); }
  static Vcpu& of(vmm_vcpu_handle handle) noexcept { return *reinterpret_cast<Vcpu*>(handle); }

  ResetDetector detector;

  /// Our own mapping of the vCPU's kvm_run, where the VM denies MSRs; otherwise nullptr. To be
  /// followed only by who counts as a user.
  std::atomic<kvm_run*> run{nullptr};

  Vm* vm = nullptr;    ///< counted as a user of it
  uint32_t index = 0;  ///< argument of KVM_CREATE_VCPU
  std::atomic<int> fd{-1};

  CpuidTable cpuid;       ///< guarded by vm->mutex
  std::mutex hook_mutex;  ///< one vcpu_reset of a vCPU at a time
  int hook_fd = -1;       ///< the descriptor that the hook's caller used; guarded by hook_mutex

  Vcpu* next_free = nullptr;
};

}  // namespace host_preload
