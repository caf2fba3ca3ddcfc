// SPDX-License-Identifier: MIT
#include "host_preload/vcpu_resets.hpp"

#include <mutex>

#include "host_preload/inside.hpp"
#include "host_preload/real_calls.hpp"
#include "host_preload/vm_status.hpp"

namespace host_preload {

void VcpuResets::observe(Vcpu& vcpu, int fd, VcpuEvent event, ResetRule rule) noexcept {
  const ResetAction action = vcpu.detector.on(event, rule);
  if (action == ResetAction::none) return;
  if (action == ResetAction::yield)
    log_.event(VMM_LOG_INFO,
               "vcpu_reset_left vm=%d vcpu=%u reason=\"the VMM wrote PMU registers "
               "itself\"",
               vcpu.vm->number, vcpu.index);
  else
    call_hooks(vcpu, fd, action);
}

void VcpuResets::call_hooks(Vcpu& vcpu, int fd, ResetAction action) noexcept {
  const Inside guard;
  const KeepErrno keep;
  const std::lock_guard lock(vcpu.hook_mutex);
  vcpu.hook_fd = fd;
  for (const PluginView& plugin : vcpu.vm->plugins) {
    if (plugin.instance->hooks().vcpu_reset == nullptr) continue;
    const int32_t result = plugin.vm->vcpu_reset(vcpu.index, vcpu.handle(), nullptr);
    log_.event(result < 0 ? VMM_LOG_ERROR : VMM_LOG_INFO,
               "vcpu_reset vm=%d vcpu=%u plugin=%s result=%d rule=%s", vcpu.vm->number, vcpu.index,
               plugin.instance->name(), result, reset_action_name(action));
    count_reset(vcpu.vm->status, result);
  }
  say_states(*vcpu.vm);  // a plugin may learn something at a reset
}

}  // namespace host_preload
