// SPDX-License-Identifier: MIT
//
// The program's commands: each is a function of its arguments, and an exit status.
#pragma once

#include <boost/program_options/options_description.hpp>
#include <boost/program_options/positional_options.hpp>
#include <string>
#include <vector>

namespace svm_pmu::tool {

using Arguments = std::vector<std::string>;

inline constexpr int kExitGood = 0;
inline constexpr int kExitWrong = 1;    ///< something is not as it should be
inline constexpr int kExitUsage = 2;    ///< the command line is wrong; nothing was done
inline constexpr int kExitUnknown = 3;  ///< status: something could not be looked at

/// A command and its options, for help, the parser and shell completion.
struct Command {
  const char* name;
  const char* help;  ///< what it is for, in a line
  boost::program_options::options_description (*options)();
  int (*run)(const Arguments&);
};

/// All of them.
const std::vector<Command>& commands();

boost::program_options::options_description probe_options();
int probe_command(const Arguments& arguments);
boost::program_options::options_description explain_options();
int explain_command(const Arguments& arguments);
boost::program_options::options_description status_options();
int status_command(const Arguments& arguments);

/// Stores a command's arguments where its description says. False: they are wrong, which was said
/// to standard error; the command ends with kExitUsage. `words`: which option takes the arguments
/// that belong to none.
bool parse_arguments(const char* command, const Arguments& arguments,
                     const boost::program_options::options_description& description,
                     const boost::program_options::positional_options_description& words = {});

/// The description as a text for people.
std::string help_of(const boost::program_options::options_description& description);

/// Prints "svm-pmu: error: ..." to standard error.
void print_error(const std::string& text);

}  // namespace svm_pmu::tool
