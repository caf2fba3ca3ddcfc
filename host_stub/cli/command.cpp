// SPDX-License-Identifier: MIT
#include "cli/command.hpp"

#include <fmt/format.h>

#include <boost/program_options/errors.hpp>
#include <boost/program_options/parsers.hpp>
#include <boost/program_options/variables_map.hpp>
#include <sstream>

#include "check/report.hpp"

namespace host_stub {

namespace po = boost::program_options;

bool parse_arguments(const char* command, const Arguments& arguments,
                     const po::options_description& description,
                     const po::positional_options_description& words) try {
  po::variables_map values;
  po::store(po::command_line_parser(arguments).options(description).positional(words).run(),
            values);
  po::notify(values);
  return true;
} catch (const po::error& error) {
  print_error(fmt::format("{}: {}", command, error.what()));
  return false;
}

std::string help_of(const po::options_description& description) {
  std::ostringstream text;
  text << description;
  return text.str();
}

int print_report(const RuleReport& report, bool json) {
  fmt::print("{}", json ? report.json().dump(2) + "\n" : report.text());
  return report.good() ? kExitGood : kExitWrong;
}

void print_error(const std::string& text) { fmt::print(stderr, "host_stub: error: {}\n", text); }

}  // namespace host_stub
