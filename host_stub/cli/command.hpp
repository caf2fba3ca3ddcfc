// SPDX-License-Identifier: MIT
//
// The program's commands: each is a function of its arguments, and an exit status.
#pragma once

#include <boost/program_options/options_description.hpp>
#include <boost/program_options/positional_options.hpp>
#include <string>
#include <vector>

namespace host_stub {

class RuleReport;

/// Exit statuses of every command.
inline constexpr int kExitGood = 0;   ///< everything did what it should
inline constexpr int kExitWrong = 1;  ///< something did not
inline constexpr int kExitUsage = 2;  ///< the command line is wrong; nothing was done

using Arguments = std::vector<std::string>;

int run_command(const Arguments& arguments);
int facts_command(const Arguments& arguments);
int probe_command(const Arguments& arguments);
int conformance_command(const Arguments& arguments);
int validate_command(const Arguments& arguments);

/// Stores a command's arguments where its description says. False: they are wrong, which was said
/// to standard error; the command ends with kExitUsage. `words`: which option takes the arguments
/// that belong to none.
bool parse_arguments(const char* command, const Arguments& arguments,
                     const boost::program_options::options_description& description,
                     const boost::program_options::positional_options_description& words = {});

/// The file of a plugin that was named. A bare name that is no file of the current folder is looked
/// for where plugins are: in the build tree, in this program's prefix, in the one that it was
/// configured for. As it was named if it is nowhere.
std::string plugin_path(const std::string& named);

/// The description as a text for people.
std::string help_of(const boost::program_options::options_description& description);

/// Prints a report, as a text or as JSON. The command's exit status: kExitGood if it is good.
int print_report(const RuleReport& report, bool json);

/// Prints "host_stub: error: ..." to standard error.
void print_error(const std::string& text);

}  // namespace host_stub
