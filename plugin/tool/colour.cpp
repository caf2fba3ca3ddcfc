// SPDX-License-Identifier: MIT
#include "tool/colour.hpp"

#include <fmt/format.h>
#include <stdlib.h>
#include <unistd.h>

namespace svm_pmu::tool {

bool colour_wanted() {
  const char* no_colour = getenv("NO_COLOR");
  const char* terminal = getenv("TERM");
  return isatty(STDOUT_FILENO) != 0 && (no_colour == nullptr || *no_colour == '\0') &&
         terminal != nullptr && std::string_view(terminal) != "dumb";
}

std::string painted(std::string_view text, Colour colour, bool wanted) {
  if (!wanted) return std::string(text);
  constexpr int kCodes[] = {31, 33, 32};  // by Colour; ECMA-48, SGR
  return fmt::format("\033[{}m{}\033[0m", kCodes[static_cast<std::size_t>(colour)], text);
}

}  // namespace svm_pmu::tool
