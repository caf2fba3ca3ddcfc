// SPDX-License-Identifier: MIT
//
// What a program of this project says to --version.
#pragma once

#include <string>
#include <string_view>

namespace host_kit {

/// "PROGRAM 1.0.0 (plugin ABI 1.0)": the project's version, and that of the ABI it was built with.
std::string version_line(std::string_view program);

}  // namespace host_kit
