// SPDX-License-Identifier: MIT
#include "host_preload/vm_status.hpp"

#include <cstddef>
#include <mutex>
#include <utility>

namespace host_preload {

void say_states(Vm& vm) noexcept {
  if (vm.status == nullptr) return;
  const std::lock_guard lock(vm.mutex);
  for (std::size_t i = 0; i < vm.plugins.size(); ++i) {
    PluginView& plugin = vm.plugins[i];
    const char* state = plugin.vm->state();
    // a word is constant: another one has another address
    if (state != std::exchange(plugin.said, state)) say_state(vm.status, i, state);
  }
}

}  // namespace host_preload
