// SPDX-License-Identifier: MIT
//
// What the status page says of a VM: kept up to date with what its plugins say.
#pragma once

#include "host_preload/vm.hpp"

namespace host_preload {

/// Publishes what the plugins do for a VM, where that is new. Any thread.
void say_states(Vm& vm) noexcept;

}  // namespace host_preload
