// SPDX-License-Identifier: MIT
//
// The real KVM: a device node, as a rule /dev/kvm.
#pragma once

#include <memory>
#include <string>
#include <tl/expected.hpp>

#include "tool/kvm.hpp"

namespace svm_pmu::tool {

/// Error: one line with the path, what is wrong, and what to do about it.
tl::expected<std::unique_ptr<Kvm>, std::string> open_kvm_device(const std::string& path);

}  // namespace svm_pmu::tool
