// SPDX-License-Identifier: MIT
//
// The matrix as a program: its command line, its rows as text or JSON, its exit status.
#pragma once

#include "cli/command.hpp"

namespace host_stub {

/// Runs the cases that the arguments choose. kExitGood, kExitWrong or kExitUsage.
int matrix_command(const Arguments& arguments);

}  // namespace host_stub
