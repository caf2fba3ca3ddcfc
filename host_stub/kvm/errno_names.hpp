// SPDX-License-Identifier: MIT
//
// Names of the errors that KVM's ioctls give. Answers: what is -22 called, and which number is
// "EINVAL".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace host_stub {

/// "EINVAL" for 22; "errno 9999" for a number that is not in the table.
std::string errno_name(int32_t number);

/// 22 for "EINVAL".
std::optional<int32_t> errno_number(std::string_view name);

/// All names of the table, "EPERM, EINTR, ...".
std::string errno_names();

}  // namespace host_stub
