// SPDX-License-Identifier: MIT
//
// Small files of the operating system, read whole.
#pragma once

#include <string>
#include <tl/expected.hpp>

#include "host_kit/unique_fd.hpp"

namespace svm_pmu::tool {

using host_kit::UniqueFd;

/// A file's content; for files of /proc and /sys, whose size is not known before. Error: errno.
tl::expected<std::string, int> read_file(const std::string& path);

/// The first word of a file; `otherwise` where it cannot be read or is empty.
std::string first_word(const std::string& path, const std::string& otherwise);

/// What a symbolic link leads to. Error: errno.
tl::expected<std::string, int> read_link(const std::string& path);

}  // namespace svm_pmu::tool
