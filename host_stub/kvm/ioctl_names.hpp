// SPDX-License-Identifier: MIT
//
// Names of KVM's ioctls and of its capabilities. Answers: what is 0x4008ae89 called in
// <linux/kvm.h> ("KVM_SET_MSRS") and in a fault script ("set_msrs").
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace host_stub {

/// "KVM_SET_MSRS"; "ioctl 0x4008ae99" for a number that is not in the table.
std::string ioctl_name(uint32_t request);

/// The ioctl that a fault script calls `word`: "set_msrs", "check_extension", "create_vm".
std::optional<uint32_t> ioctl_by_word(std::string_view word);

/// All words of fault scripts, "check_extension, create_vm, ...".
std::string ioctl_words();

/// "KVM_CAP_PMU_CAPABILITY"; "capability 999" for a number that is not in the table.
std::string cap_name(uint32_t cap);

}  // namespace host_stub
