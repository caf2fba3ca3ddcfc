// SPDX-License-Identifier: MIT
//
// The simulated KVM: opens one. It answers the ioctls that a VMM and the plugin make about the AMD
// vPMU as the profile's kernel does, errors included; it runs no guest code. KVM_RUN and memory
// are not there: Vcpu::guest_run stands for both.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

#include "kvm/kvm.hpp"
#include "sim/profile.hpp"

namespace host_stub {

std::unique_ptr<Kvm> make_sim(const Profile& profile);

/// The same from a spec ("sim:linux-6.12,host-perfmonv2"). Error: see parse_profile.
tl::expected<std::unique_ptr<Kvm>, std::string> open_sim(std::string_view spec);

}  // namespace host_stub
