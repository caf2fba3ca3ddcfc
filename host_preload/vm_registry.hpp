// SPDX-License-Identifier: MIT
//
// All VMs and vCPUs of this process: makes them, finds them by file descriptor, ends them.
//
// Descriptors: a VM is what KVM_CREATE_VM returned, a vCPU what KVM_CREATE_VCPU returned; a number
// that comes again heals what a missed close left behind. A descriptor that nobody saw made (dup,
// fcntl, SCM_RIGHTS) is looked up by its link in /proc/self/fd when it is first used for a vCPU
// ioctl, and compared with kcmp(2) where the name alone does not tell.
//
// Threads: everything may be called from any. Locks are taken when objects are made, ended or
// searched for, never on the way to KVM_RUN.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "host_preload/fd_table.hpp"
#include "host_preload/preload_log.hpp"
#include "host_preload/vm.hpp"

namespace host_preload {

class VmRegistry;

/// A counted use of a Vm or a Vcpu; may be empty.
template <typename T>
class Use {
 public:
  Use() noexcept = default;
  Use(VmRegistry& registry, T* counted) noexcept : registry_(&registry), object_(counted) {}
  Use(Use&& other) noexcept
      : registry_(other.registry_), object_(std::exchange(other.object_, nullptr)) {}
  Use& operator=(Use&&) = delete;
  ~Use();

  explicit operator bool() const noexcept { return object_ != nullptr; }
  T* operator->() const noexcept { return object_; }
  T& operator*() const noexcept { return *object_; }

 private:
  VmRegistry* registry_ = nullptr;
  T* object_ = nullptr;
};

class VmRegistry {
 public:
  explicit VmRegistry(PreloadLog& log) noexcept : log_(log) {}

  /// What the descriptor leads to, with nothing counted: for KVM_RUN, see vm.hpp.
  KvmObject* peek(int fd) const noexcept { return table_.get(fd); }

  /// A VM or a vCPU by descriptor; empty if it is not one. One load more than peek if it is known.
  Use<Vm> vm(int fd) noexcept { return find<Vm>(fd); }
  Use<Vcpu> vcpu(int fd) noexcept { return find<Vcpu>(fd); }

  /// A VM that is not in the table yet, with one user counted, to be filled and then published. May
  /// throw bad_alloc.
  Vm* make_vm(int fd);
  void publish(Vm& vm) noexcept;

  /// A new vCPU of `vm` in the table; `run` may be nullptr. May throw bad_alloc; nullptr: `fd` is
  /// above what the table holds.
  Vcpu* add_vcpu(Vm& vm, int fd, uint32_t index, kvm_run* run);

  /// The process closes this descriptor (before it does): ends what that leaves unused.
  void forget_fd(int fd) noexcept;

  /// Nothing that the table holds is this process's: after fork. Objects and locks are the
  /// parent's, kept and never touched again. May throw bad_alloc.
  void forget_all();

  /// What all VMs that live hide; empty if there is none. May throw bad_alloc.
  HiddenCpuid hidden_from_all();

  bool any_vm() const noexcept { return live_vms_.load(std::memory_order_relaxed) != 0; }

  void release(Vm* vm) noexcept;
  void release(Vcpu* vcpu) noexcept;

 private:
  template <typename T>
  Use<T> find(int fd) noexcept;
  KvmObject* resolve(int fd, KvmObject::Kind kind) noexcept;
  KvmObject* match(int fd, const char* link, KvmObject::Kind kind) noexcept;
  void store(int fd, KvmObject* object) noexcept;
  void release_object(KvmObject* object) noexcept;

  PreloadLog& log_;
  FdTable<KvmObject> table_;
  std::atomic<uint32_t> live_vms_{0};

  // in a struct, so that the child of a fork can begin anew
  struct Pools {
    std::mutex mutex;
    std::vector<Vm*> vms;  // those that live
    FreeList<Vm> free_vms;
    FreeList<Vcpu> free_vcpus;
    std::unique_ptr<Pools> parents;  // the process's that forked this one
  };
  std::unique_ptr<Pools> pools_ = std::make_unique<Pools>();
};

template <typename T>
Use<T>::~Use() {
  if (object_ != nullptr) registry_->release(object_);
}

}  // namespace host_preload
