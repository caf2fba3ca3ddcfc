// SPDX-License-Identifier: MIT
//
// From what the VMM does to a vCPU to the plugins' vcpu_reset.
#pragma once

#include "host_preload/preload_log.hpp"
#include "host_preload/vm.hpp"

namespace host_preload {

class VcpuResets {
 public:
  explicit VcpuResets(PreloadLog& log) noexcept : log_(log) {}

  /// Tells the vCPU's detector, and calls the hooks if it says so: on this thread, now. `fd`: the
  /// descriptor that the VMM used.
  void observe(Vcpu& vcpu, int fd, VcpuEvent event, ResetRule rule) noexcept;

 private:
  void call_hooks(Vcpu& vcpu, int fd, ResetAction action) noexcept;

  PreloadLog& log_;
};

}  // namespace host_preload
