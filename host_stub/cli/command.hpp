// SPDX-License-Identifier: MIT
//
// The program's commands: each is a function of its arguments, and an exit status.
#pragma once

#include <string>

#include "tool/program.hpp"

namespace host_stub {

class RuleReport;

using svm_pmu::tool::Arguments;
using svm_pmu::tool::help_of;
using svm_pmu::tool::kExitGood;
using svm_pmu::tool::kExitUsage;
using svm_pmu::tool::kExitWrong;

int run_command(const Arguments& arguments);
int facts_command(const Arguments& arguments);
int probe_command(const Arguments& arguments);
int conformance_command(const Arguments& arguments);
int validate_command(const Arguments& arguments);

/// As those of tool/program.hpp.
inline bool parse_arguments(
    const char* command, const Arguments& arguments,
    const boost::program_options::options_description& description,
    const boost::program_options::positional_options_description& words = {}) {
  return svm_pmu::tool::parse_arguments("host_stub", command, arguments, description, words);
}
inline void print_error(const std::string& text) { svm_pmu::tool::print_error("host_stub", text); }

/// The file of a plugin that was named. A bare name that is no file of the current folder is looked
/// for where plugins are: in the build tree, in this program's prefix, in the one that it was
/// configured for. As it was named if it is nowhere.
std::string plugin_path(const std::string& named);

/// Prints a report, as a text or as JSON. The command's exit status: kExitGood if it is good.
int print_report(const RuleReport& report, bool json);

}  // namespace host_stub
