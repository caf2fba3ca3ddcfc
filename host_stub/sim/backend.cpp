// SPDX-License-Identifier: MIT
#include "sim/backend.hpp"

#include <fmt/format.h>

#include "kvm/kvm_device.hpp"
#include "sim/profile.hpp"
#include "sim/sim_kvm.hpp"

namespace host_stub {

tl::expected<std::unique_ptr<Kvm>, std::string> open_kvm(std::string_view spec) {
  if (spec.find('/') != std::string_view::npos) return open_kvm_device(std::string(spec));
  if (spec.substr(0, 3) != "sim")
    return tl::unexpected(fmt::format(
        "KVM '{}' is neither a path such as /dev/kvm nor a simulated one: sim[:KERNEL][,SWITCH]...",
        spec));
  auto profile = parse_profile(spec);
  if (!profile) return tl::unexpected(profile.error());
  return make_sim(*profile);
}

}  // namespace host_stub
