// SPDX-License-Identifier: MIT
//
// A program of commands: what its main does, and what its commands share. A command is a function
// of its arguments, and its result an exit status.
#pragma once

#include <boost/program_options/options_description.hpp>
#include <boost/program_options/positional_options.hpp>
#include <span>
#include <string>
#include <vector>

namespace svm_pmu::tool {

using Arguments = std::vector<std::string>;

inline constexpr int kExitGood = 0;
inline constexpr int kExitWrong = 1;  ///< something is not as it should be
inline constexpr int kExitUsage = 2;  ///< the command line is wrong; nothing was done

struct Command {
  const char* name;
  const char* help;  ///< what it is for, in a line
  int (*run)(const Arguments&);
};

struct Program {
  const char* name;
  const char* purpose;  ///< a sentence
  std::span<const Command> commands;
  const char* examples;         ///< the end of its help
  void (*reference)() = [] {};  ///< prints what --help-all has besides the options of all commands
};

/// Runs the command that the first word names, or answers --help, list, --help-all or --version.
/// The exit status; what goes wrong is said to standard error.
int run_program(const Program& program, int argc, char** argv);

/// Stores a command's arguments where its description says. False: they are wrong, which was said
/// to standard error; the command ends with kExitUsage. `words`: which option takes the arguments
/// that belong to none.
bool parse_arguments(const char* program, const char* command, const Arguments& arguments,
                     const boost::program_options::options_description& description,
                     const boost::program_options::positional_options_description& words = {});

/// The description as a text for people.
std::string help_of(const boost::program_options::options_description& description);

/// Prints "PROGRAM: error: ..." to standard error.
void print_error(const char* program, const std::string& text);

}  // namespace svm_pmu::tool
