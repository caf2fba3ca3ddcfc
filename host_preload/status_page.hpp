// SPDX-License-Identifier: MIT
//
// What this process's VMs have of plugins, for who looks from outside: a page of memory in a file
// without a name ("memfd:vmm-plugins-status"), which others read through /proc/PID/fd. svm-pmu
// status does.
//
// Made when the plugins are loaded, before a VMM locks itself into a sandbox; afterwards it is
// memory alone: no system call, no allocation, nothing on the way to KVM_RUN. Sealed, so that its
// size never changes. The child of a fork makes its own.
//
// LAYOUT (version 1; little-endian, offsets in the structs below): a header, kStatusPlugins
// plugins, kStatusVms VMs. A reader checks magic and version, takes the sizes and counts from the
// header, and reads a VM again if its sequence was odd or changed meanwhile. Texts end in a NUL.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "host_kit/plugin_instance.hpp"

namespace host_preload {

inline constexpr const char* kStatusName = "vmm-plugins-status";
inline constexpr char kStatusMagic[8] = {'V', 'M', 'M', 'P', 'L', 'U', 'G', '\n'};
inline constexpr uint32_t kStatusVersion = 1;
inline constexpr uint32_t kStatusPlugins = 8;
inline constexpr uint32_t kStatusVms = 32;

struct StatusHeader {
  char magic[8];
  uint32_t version;
  uint32_t header_size;
  uint32_t plugin_size, plugin_count;  ///< of one, and how many there is room for
  uint32_t vm_size, vm_count;
  uint32_t pid;      ///< as the process itself sees it: whose page this is
  uint32_t plugins;  ///< how many there are; more than plugin_count: the rest is not named
  std::atomic<uint32_t> vms_without_room;  ///< VMs that were made and had no place here
  uint32_t reserved;
  char host[80];  ///< "vmm_preload 1.0.0"
};

struct StatusPlugin {
  char name[32];
  char version[32];
  char options[448];  ///< as the operator wrote them, cut if they are longer
};

struct StatusVm {
  std::atomic<uint32_t> sequence;  ///< odd while the entry changes
  std::atomic<int32_t> fd;         ///< the number that KVM_CREATE_VM returned; below 0: no VM
  uint32_t plugins;                ///< bit i: plugin i has this VM
  uint32_t reserved;
  std::atomic<uint64_t> resets;         ///< vcpu_reset hooks, of all vCPUs and plugins
  std::atomic<uint64_t> failed_resets;  ///< those of them that failed
  char states[kStatusPlugins][32];      ///< of plugin i; empty: it does not say
};

static_assert(sizeof(StatusHeader) == 128 && sizeof(StatusPlugin) == 512 &&
              sizeof(StatusVm) == 288);
static_assert(std::atomic<uint64_t>::is_always_lock_free);

inline constexpr std::size_t kStatusSize =
    sizeof(StatusHeader) + kStatusPlugins * sizeof(StatusPlugin) + kStatusVms * sizeof(StatusVm);

using PluginInstances = std::vector<std::unique_ptr<host_kit::PluginInstance>>;

class StatusPage {
 public:
  StatusPage() noexcept = default;
  ~StatusPage();  // after the last VM; in a VMM's process there is one, which is never destroyed
  StatusPage(const StatusPage&) = delete;
  StatusPage& operator=(const StatusPage&) = delete;

  /// Makes the page of this process and names the plugins in it. In the child of a fork: a new one;
  /// the parent's stays mapped, since VMs of the parent refer to it. 0 or a negated errno: then
  /// there is none, and all else does nothing.
  int create(pid_t pid, std::string_view host, const PluginInstances& plugins) noexcept;

  /// A VM was made. nullptr: no page, or no room. Any thread.
  StatusVm* add_vm(int fd) noexcept;

 private:
  struct Page {
    StatusHeader header;
    StatusPlugin plugins[kStatusPlugins];
    StatusVm vms[kStatusVms];
  };
  static_assert(sizeof(Page) == kStatusSize);

  int fd_ = -1;
  Page* page_ = nullptr;
};

// What follows is for the entry of one VM; nullptr: nothing is done. No system call, no allocation.

/// Plugin number `plugin` has this VM, and does for it what `state` says. One thread at a time for
/// one VM, and not beside end_vm.
void say_state(StatusVm* vm, std::size_t plugin, std::string_view state) noexcept;

/// A plugin's vcpu_reset returned `result`. Any thread.
void count_reset(StatusVm* vm, int32_t result) noexcept;

/// The VM is gone; the entry is free.
void end_vm(StatusVm* vm) noexcept;

}  // namespace host_preload
