// SPDX-License-Identifier: MIT
#include "cli/command.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <boost/program_options/errors.hpp>
#include <boost/program_options/parsers.hpp>
#include <boost/program_options/variables_map.hpp>
#include <filesystem>
#include <sstream>
#include <system_error>

#include "check/report.hpp"
#include "host_kit/plugin_list.hpp"

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

std::string plugin_path(const std::string& named) {
  if (named.empty() || named.find('/') != std::string::npos || access(named.c_str(), F_OK) == 0)
    return named;
  std::error_code failed;
  const std::string program = std::filesystem::read_symlink("/proc/self/exe", failed).string();
  const std::string here = program.substr(0, program.find_last_of('/'));
  return host_kit::find_plugin(named, {here + "/../plugin", here + "/../" HOST_STUB_PLUGIN_DIR,
                                       HOST_STUB_FULL_PLUGIN_DIR})
      .value_or(named);
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
