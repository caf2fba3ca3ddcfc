// SPDX-License-Identifier: MIT
#include "cli/command.hpp"

#include <fmt/format.h>

namespace host_stub {

void print_error(const std::string& text) { fmt::print(stderr, "host_stub: error: {}\n", text); }

}  // namespace host_stub
