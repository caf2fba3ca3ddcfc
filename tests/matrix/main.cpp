// SPDX-License-Identifier: MIT
#include <algorithm>
#include <exception>

#include "matrix/matrix_command.hpp"

int main(int argc, char** argv) try {
  return host_stub::matrix_command({argv + std::min(argc, 1), argv + argc});
} catch (const std::exception& error) {
  host_stub::print_error(error.what());
  return host_stub::kExitWrong;
}
