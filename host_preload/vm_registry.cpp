// SPDX-License-Identifier: MIT
#include "host_preload/vm_registry.hpp"

#include <fcntl.h>
#include <linux/kcmp.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <optional>
#include <utility>

#include "host_preload/real_calls.hpp"

namespace host_preload {
namespace {

/// What a descriptor that was looked at and is not ours leads to.
constinit KvmObject foreign{KvmObject::Kind::foreign};

constexpr const char* kVmLink = "anon_inode:kvm-vm";
constexpr const char* kVcpuLink = "anon_inode:kvm-vcpu";  // followed by ":N" since Linux 4.15

using Link = std::array<char, 64>;

Link link_of(int fd) noexcept {
  Link path{}, link{};
  std::snprintf(path.data(), path.size(), "/proc/self/fd/%d", fd);
  if (readlink(path.data(), link.data(), link.size() - 1) < 0) link[0] = '\0';
  return link;
}

enum class Same : uint8_t { yes, no, unknown };

/// Do two descriptors of this process lead to the same open file?
Same same_file(int a, int b) noexcept {
  if (a < 0 || b < 0) return Same::unknown;
  const pid_t self = getpid();
  const long order = syscall(SYS_kcmp, self, self, KCMP_FILE, a, b);
  if (order < 0) return Same::unknown;  // not built into the kernel, or filtered
  return order == 0 ? Same::yes : Same::no;
}

/// The vCPU's index in a link "anon_inode:kvm-vcpu:N"; nullopt if it names none.
std::optional<uint32_t> index_in(const char* link) noexcept {
  const std::size_t name = std::strlen(kVcpuLink);
  if (std::strncmp(link, kVcpuLink, name) != 0 || link[name] != ':') return std::nullopt;
  return static_cast<uint32_t>(std::strtoul(link + name + 1, nullptr, 10));
}

/// Objects that an unknown descriptor may lead to.
class Suspects {
 public:
  explicit Suspects(int fd) noexcept : fd_(fd) {}

  void consider(KvmObject& object, int its_fd) noexcept {
    switch (same_file(fd_, its_fd)) {
      case Same::yes:
        proven_ = &object;
        break;
      case Same::unknown:
        possible_ = possible_count_++ == 0 ? &object : nullptr;
        break;
      case Same::no:
        break;
    }
  }

  /// The one that surely is it, or the only one that can be; nullptr: none, or several.
  KvmObject* found() const noexcept { return proven_ != nullptr ? proven_ : possible_; }

 private:
  int fd_;
  KvmObject* proven_ = nullptr;
  KvmObject* possible_ = nullptr;
  int possible_count_ = 0;
};

template <typename T>
constexpr KvmObject::Kind kKindOf = KvmObject::Kind::foreign;
template <>
constexpr KvmObject::Kind kKindOf<Vm> = KvmObject::Kind::vm;
template <>
constexpr KvmObject::Kind kKindOf<Vcpu> = KvmObject::Kind::vcpu;

}  // namespace

template <typename T>
Use<T> VmRegistry::find(int fd) noexcept {
  for (;;) {
    KvmObject* object = table_.get(fd);
    if (object == nullptr && any_vm()) object = resolve(fd, kKindOf<T>);
    if (object == nullptr || object->kind != kKindOf<T>) return {};
    if (!object->try_acquire()) continue;  // ended just now; its slot changes
    // counted, but perhaps after it had ended and begun again as another one
    if (table_.get(fd) == object) return Use<T>(*this, static_cast<T*>(object));
    release_object(object);
  }
}
template Use<Vm> VmRegistry::find<Vm>(int) noexcept;
template Use<Vcpu> VmRegistry::find<Vcpu>(int) noexcept;

/// An unknown descriptor: is it a duplicate of one that is known? Caches the answer.
KvmObject* VmRegistry::resolve(int fd, KvmObject::Kind kind) noexcept {
  const KeepErrno keep;
  const Link link = link_of(fd);
  const char* wanted = kind == KvmObject::Kind::vm ? kVmLink : kVcpuLink;
  if (link[0] == '\0') {
    if (fcntl(fd, F_GETFD) < 0) return nullptr;  // no descriptor at all
    log_.event(VMM_LOG_WARNING,
               "fd_unknown fd=%d reason=\"/proc/self/fd cannot be read: plugins are not called "
               "for it\"",
               fd);
    store(fd, &foreign);  // looked at once
    return nullptr;
  }
  if (std::strncmp(link.data(), wanted, std::strlen(wanted)) != 0) return nullptr;
  // an answer that the table cannot keep is none: find() looks for it there
  if (!table_.reserve(fd)) return nullptr;
  KvmObject* object = match(fd, link.data(), kind);
  if (object == nullptr) {
    log_.event(VMM_LOG_WARNING,
               "fd_unknown fd=%d link=%s reason=\"its creation was not seen: "
               "plugins are not called for it\"",
               fd, link.data());
    store(fd, &foreign);
    return nullptr;
  }
  int none = -1;
  if (kind == KvmObject::Kind::vm) static_cast<Vm*>(object)->fd.compare_exchange_strong(none, fd);
  log_.event(VMM_LOG_INFO, "fd_duplicate fd=%d link=%s", fd, link.data());
  store(fd, object);
  return object;
}

/// The object behind a link, with one more user counted for the table.
KvmObject* VmRegistry::match(int fd, const char* link, KvmObject::Kind kind) noexcept {
  const std::optional<uint32_t> index = index_in(link);
  Suspects suspects(fd);
  const std::lock_guard lock(pools_->mutex);
  for (Vm* vm : pools_->vms) {
    if (kind == KvmObject::Kind::vm) {
      suspects.consider(*vm, vm->fd.load());
      continue;
    }
    const std::lock_guard vm_lock(vm->mutex);
    for (Vcpu* vcpu : vm->vcpus)
      if (!index || vcpu->index == *index) suspects.consider(*vcpu, vcpu->fd.load());
  }
  KvmObject* found = suspects.found();
  return found != nullptr && found->try_acquire() ? found : nullptr;
}

/// Puts an object, of which one user is counted, into the table.
void VmRegistry::store(int fd, KvmObject* object) noexcept {
  release_object(table_.put(fd, object));
}

void VmRegistry::release_object(KvmObject* object) noexcept {
  if (object == nullptr) return;
  if (object->kind == KvmObject::Kind::vm) release(static_cast<Vm*>(object));
  if (object->kind == KvmObject::Kind::vcpu) release(static_cast<Vcpu*>(object));
}

Vm* VmRegistry::make_vm(int fd) {
  if (!table_.reserve(fd)) throw std::bad_alloc();
  const std::lock_guard lock(pools_->mutex);
  pools_->vms.reserve(pools_->vms.size() + 1);
  Vm* vm = pools_->free_vms.pop_or_new();
  vm->number = fd;
  vm->fd.store(fd);
  vm->answered_an_exit.store(false);
  vm->exits_for_denied = false;
  vm->pmu_disabled = false;
  vm->vmm_wants_exits.store(false);
  vm->said_busy.store(false);
  vm->said_pmu_kept.store(false);
  vm->creating.store(true);
  pools_->vms.push_back(vm);
  live_vms_.fetch_add(1);
  vm->start();
  return vm;
}

void VmRegistry::publish(Vm& vm) noexcept {
  vm.creating.store(false);
  vm.try_acquire();  // cannot fail: the caller is a user of it
  store(vm.number, &vm);
}

void VmRegistry::release(Vm* vm) noexcept {
  if (!vm->drop()) return;
  const KeepErrno keep;
  const int number = vm->number;
  const bool was_published = !vm->creating.load();
  while (!vm->plugins.empty()) vm->plugins.pop_back();  // vm_destroyed, the last one first
  end_vm(std::exchange(vm->status, nullptr));
  vm->denied = DenyList{};
  vm->supported.clear();
  if (was_published) log_.event(VMM_LOG_INFO, "vm_destroyed vm=%d", number);
  const std::lock_guard lock(pools_->mutex);
  std::erase(pools_->vms, vm);
  vm->hidden = HiddenCpuid{};  // read by hidden_from_all until here
  pools_->free_vms.push(vm);
  live_vms_.fetch_sub(1);
}

Vcpu* VmRegistry::add_vcpu(Vm& vm, int fd, uint32_t index, kvm_run* run) {
  if (!table_.reserve(fd)) return nullptr;
  Vcpu* vcpu = nullptr;
  {
    const std::lock_guard lock(pools_->mutex);
    vcpu = pools_->free_vcpus.pop_or_new();
  }
  vcpu->detector.clear();
  vcpu->run.store(run);
  vcpu->vm = &vm;
  vcpu->index = index;
  vcpu->fd.store(fd);
  {
    const std::lock_guard lock(vm.mutex);
    vcpu->cpuid.clear();
    vm.vcpus.push_back(vcpu);
  }
  vm.try_acquire();  // cannot fail: the caller is a user of it
  vcpu->start();
  store(fd, vcpu);
  return vcpu;
}

void VmRegistry::release(Vcpu* vcpu) noexcept {
  if (!vcpu->drop()) return;
  const KeepErrno keep;
  Vm* vm = vcpu->vm;
  if (kvm_run* run = vcpu->run.exchange(nullptr)) munmap(run, sizeof(kvm_run));
  {
    const std::lock_guard lock(vm->mutex);
    std::erase(vm->vcpus, vcpu);
  }
  {
    const std::lock_guard lock(pools_->mutex);
    pools_->free_vcpus.push(vcpu);
  }
  release(vm);
}

HiddenCpuid VmRegistry::hidden_from_all() {
  HiddenCpuid common;
  bool first = true;
  const std::lock_guard lock(pools_->mutex);
  for (const Vm* vm : pools_->vms) {
    if (vm->creating.load()) continue;  // it is still being filled
    common = std::exchange(first, false) ? vm->hidden : common.intersection(vm->hidden);
  }
  return common;
}

void VmRegistry::forget_fd(int fd) noexcept {
  KvmObject* object = table_.put(fd, nullptr);
  if (object == nullptr || object == &foreign) return;
  // the number will be another file's: name a duplicate instead, if one is known
  int other = -1;
  table_.for_each([&](int its_fd, KvmObject* its) {
    if (its == object) other = its_fd;
  });
  int expected = fd;
  if (object->kind == KvmObject::Kind::vm)
    static_cast<Vm*>(object)->fd.compare_exchange_strong(expected, other);
  else
    static_cast<Vcpu*>(object)->fd.compare_exchange_strong(expected, other);
  release_object(object);
}

void VmRegistry::forget_all() {
  auto fresh = std::make_unique<Pools>();
  table_.for_each([this](int fd, KvmObject*) { table_.put(fd, nullptr); });
  fresh->parents = std::move(pools_);  // its mutex may have been held at the fork
  pools_ = std::move(fresh);
  live_vms_.store(0);
}

}  // namespace host_preload
