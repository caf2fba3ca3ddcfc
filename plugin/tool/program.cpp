// SPDX-License-Identifier: MIT
#include "tool/program.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/program_options/errors.hpp>
#include <boost/program_options/parsers.hpp>
#include <boost/program_options/variables_map.hpp>
#include <cstring>
#include <exception>
#include <sstream>

#include "host_kit/version.hpp"

namespace svm_pmu::tool {

namespace po = boost::program_options;

namespace {

void print_commands(const Program& program) {
  std::size_t width = 8;
  for (const Command& command : program.commands)
    width = std::max(width, std::strlen(command.name));
  fmt::print("Usage: {} COMMAND [OPTION]...\n{}\n\nCommands:\n", program.name, program.purpose);
  for (const Command& command : program.commands)
    fmt::print("  {:<{}}{}\n", command.name, width + 2, command.help);
  fmt::print(
      "\n'{0} COMMAND --help' lists the options of a command, '{0} --help-all' those of\n"
      "all commands; '{0} --version' prints the version.\n",
      program.name);
}

void print_help(const Program& program) {
  print_commands(program);
  fmt::print("{}", program.examples);
}

/// The whole reference; the manual page is made of it.
void print_help_of_all(const Program& program) {
  print_commands(program);
  fmt::print("\nOptions:\n");
  for (const Command& command : program.commands) {
    fmt::print("\n");
    command.run({"--help"});
  }
  program.reference();
  fmt::print("{}", program.examples);
}

void print_version(const Program& program) {
  fmt::print("{}\n", host_kit::version_line(program.name));
}

/// What may stand instead of a command.
constexpr struct {
  const char* name;
  void (*answer)(const Program&);
} kQuestions[] = {{"--help", print_help},       {"help", print_help},
                  {"list", print_commands},     {"--help-all", print_help_of_all},
                  {"--version", print_version}, {"version", print_version}};

int dispatch(const Program& program, const Arguments& words) {
  if (words.empty()) {
    print_help(program);
    return kExitUsage;
  }
  for (const auto& question : kQuestions) {
    if (words.front() != question.name) continue;
    question.answer(program);
    return kExitGood;
  }
  for (const Command& command : program.commands)
    if (words.front() == command.name) return command.run({words.begin() + 1, words.end()});
  print_error(program.name,
              fmt::format("no command '{}'; '{} --help' lists them", words.front(), program.name));
  return kExitUsage;
}

}  // namespace

int run_program(const Program& program, int argc, char** argv) try {
  return dispatch(program, {argv + std::min(argc, 1), argv + argc});
} catch (const std::exception& error) {
  print_error(program.name, error.what());
  return kExitWrong;
}

bool parse_arguments(const char* program, const char* command, const Arguments& arguments,
                     const po::options_description& description,
                     const po::positional_options_description& words) try {
  po::variables_map values;
  po::store(po::command_line_parser(arguments).options(description).positional(words).run(),
            values);
  po::notify(values);
  return true;
} catch (const po::error& error) {
  print_error(program, fmt::format("{0}: {1}; '{2} {0} --help' lists its options", command,
                                   error.what(), program));
  return false;
}

std::string help_of(const po::options_description& description) {
  std::ostringstream text;
  text << description;
  return text.str();
}

void print_error(const char* program, const std::string& text) {
  fmt::print(stderr, "{}: error: {}\n", program, text);
}

}  // namespace svm_pmu::tool
