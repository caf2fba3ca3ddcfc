// SPDX-License-Identifier: MIT
#include "tool/command.hpp"

#include <fmt/format.h>

#include <boost/program_options/errors.hpp>
#include <boost/program_options/parsers.hpp>
#include <boost/program_options/variables_map.hpp>
#include <sstream>

namespace svm_pmu::tool {

namespace po = boost::program_options;

const std::vector<Command>& commands() {
  static const std::vector<Command> all{
      {"probe", "what this host's KVM has, which bugs, and what the plugin does here",
       probe_options, probe_command},
      {"explain",
       "what a line of a guest's or a host's log means, and whether it is one of the bugs",
       explain_options, explain_command},
      {"status", "which VMs of this host are protected, and which are not", status_options,
       status_command},
  };
  return all;
}

bool parse_arguments(const char* command, const Arguments& arguments,
                     const po::options_description& description,
                     const po::positional_options_description& words) try {
  po::variables_map values;
  po::store(po::command_line_parser(arguments).options(description).positional(words).run(),
            values);
  po::notify(values);
  return true;
} catch (const po::error& error) {
  print_error(
      fmt::format("{}: {}; 'svm-pmu {} --help' lists its options", command, error.what(), command));
  return false;
}

std::string help_of(const po::options_description& description) {
  std::ostringstream text;
  text << description;
  return text.str();
}

void print_error(const std::string& text) { fmt::print(stderr, "svm-pmu: error: {}\n", text); }

}  // namespace svm_pmu::tool
