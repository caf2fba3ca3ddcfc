// SPDX-License-Identifier: MIT
//
// Words for people: names of errors, and text in lines of at most 96 columns.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace svm_pmu::tool {

/// "EINVAL" for -EINVAL.
std::string errno_name(int32_t code);

/// Text broken into lines. Each line starts after `indent` blanks, the first one after `head`; ends
/// in a newline.
std::string wrapped(std::string_view head, std::size_t indent, std::string_view text);

}  // namespace svm_pmu::tool
