// SPDX-License-Identifier: MIT
//
// Colour on a terminal, where nobody asked for none.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace svm_pmu::tool {

enum class Colour : uint8_t { red, yellow, green };

/// Whether standard output is a terminal that shows colour, NO_COLOR is not set (no-color.org: set
/// and not empty) and TERM is not "dumb".
bool colour_wanted();

/// The text in that colour if `wanted`.
std::string painted(std::string_view text, Colour colour, bool wanted);

}  // namespace svm_pmu::tool
