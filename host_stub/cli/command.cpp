// SPDX-License-Identifier: MIT
#include "cli/command.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <system_error>

#include "check/report.hpp"
#include "host_kit/plugin_list.hpp"

namespace host_stub {

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

int print_report(const RuleReport& report, bool json) {
  fmt::print("{}", json ? report.json().dump(2) + "\n" : report.text());
  return report.good() ? kExitGood : kExitWrong;
}

}  // namespace host_stub
