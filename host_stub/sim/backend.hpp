// SPDX-License-Identifier: MIT
//
// A KVM by its spec, as on the command line: a path of a device, or a simulated kernel.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

#include "kvm/kvm.hpp"

namespace host_stub {

/// "/dev/kvm" (any path), or "sim[:KERNEL][,SWITCH]..." (sim/profile.hpp). Error: one line.
tl::expected<std::unique_ptr<Kvm>, std::string> open_kvm(std::string_view spec);

}  // namespace host_stub
