// SPDX-License-Identifier: MIT
//
// One configured instance of a plugin, and its view of one VM: create, the hooks, destroy, in the
// order and with the checks that the contract of vmm/plugin.h asks of a host.
//
// Errors are values; what a plugin does against the contract is logged as an error and treated as a
// failure. Nothing throws but std::bad_alloc in create and PluginVm::created.
#pragma once

#include <vmm/plugin.h>
#include <vmm/vm_state.h>

#include <cstdint>
#include <memory>
#include <string>
#include <tl/expected.hpp>
#include <vector>

#include "host_kit/host.hpp"

namespace host_kit {

/// Why a plugin's function failed.
struct PluginError {
  int32_t code = 0;  ///< negated errno
  std::string text;  ///< one line for people, names the plugin
};

class PluginInstance {
 public:
  /// Calls the plugin's create. `descriptor` and `host` must outlive the instance; `options` is
  /// copied; nullptr = none.
  static tl::expected<std::unique_ptr<PluginInstance>, PluginError> create(
      const vmm_plugin& descriptor, Host& host, const char* options);

  /// Calls destroy. Every PluginVm must be gone.
  ~PluginInstance();
  PluginInstance(const PluginInstance&) = delete;
  PluginInstance& operator=(const PluginInstance&) = delete;

  const char* name() const noexcept { return descriptor_.name; }
  const char* version() const noexcept { return descriptor_.version; }
  const std::string& options() const noexcept { return options_; }
  const vmm_hooks& hooks() const noexcept { return hooks_; }

 private:
  friend class PluginVm;
  struct Thunks;
  PluginInstance(const vmm_plugin& descriptor, Host& host, const char* options);

  /// Folds a plugin's result into 0 or a negated errno; logs any other as a breach.
  int32_t checked(const char* function, int32_t result) const noexcept;
  void breach(std::string_view what) const noexcept;

  const vmm_plugin& descriptor_;
  Host& host_;
  std::string options_;
  vmm_host table_{};
  vmm_hooks hooks_{};
  void* ctx_ = nullptr;
  const vmm_vm_state* state_ = nullptr;  ///< the plugin's, if it has one
  bool creating_ = false;
  bool registered_ = false;
  bool created_ = false;
};

/// A plugin's view of one VM, from vm_created to vm_destroyed.
class PluginVm {
 public:
  /// Calls vm_created. To be called right after KVM_CREATE_VM, before any KVM_CREATE_VCPU.
  static tl::expected<std::unique_ptr<PluginVm>, PluginError> created(PluginInstance& instance,
                                                                      vmm_vm_handle vm,
                                                                      uint32_t max_vcpus);
  /// Calls vm_destroyed. No other function of this object may be running.
  ~PluginVm();
  PluginVm(const PluginVm&) = delete;
  PluginVm& operator=(const PluginVm&) = delete;

  /// Calls msr_list_build. The list keeps the plugin's order.
  tl::expected<std::vector<vmm_msr>, PluginError> msr_list() const;

  /// Calls vcpu_reset. `batch` may be nullptr; an open batch keeps what was added if 0 is returned,
  /// and the caller takes back what was added otherwise. Does not allocate. 0 or a negated errno.
  int32_t vcpu_reset(uint32_t index, vmm_vcpu_handle vcpu,
                     const vmm_msr_sink* batch) const noexcept;

  /// What the plugin does for this VM, in a word (vmm/vm_state.h); "" if it does not say. S2.
  const char* state() const noexcept;

 private:
  PluginVm(PluginInstance& instance, vmm_vm_handle vm, uint32_t max_vcpus);

  PluginInstance& instance_;
  vmm_vm vm_{};
  void* vm_ctx_ = nullptr;
};

}  // namespace host_kit
