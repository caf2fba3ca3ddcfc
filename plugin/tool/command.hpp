// SPDX-License-Identifier: MIT
//
// The commands of svm-pmu.
#pragma once

#include <string>

#include "tool/program.hpp"

namespace svm_pmu::tool {

inline constexpr int kExitUnknown = 3;  ///< status: something could not be looked at

int probe_command(const Arguments& arguments);
int explain_command(const Arguments& arguments);
int status_command(const Arguments& arguments);

/// As those of program.hpp.
inline bool parse_arguments(
    const char* command, const Arguments& arguments,
    const boost::program_options::options_description& description,
    const boost::program_options::positional_options_description& words = {}) {
  return parse_arguments("svm-pmu", command, arguments, description, words);
}
inline void print_error(const std::string& text) { print_error("svm-pmu", text); }

}  // namespace svm_pmu::tool
