// SPDX-License-Identifier: MIT
//
// host_stub conformance-host: judges a host by the records of host_conformance.so.
#include <fmt/format.h>

#include <boost/program_options.hpp>

#include "check/host/judge.hpp"
#include "cli/command.hpp"

namespace host_stub {

namespace po = boost::program_options;

namespace {

constexpr const char* kUse = R"(
  1. host_stub conformance-host --runs record.jsonl
     prints the options to give to host_conformance.so, a line a run.

  2. Run your VMM once with each of them, as the table says. All runs may share one file.

  3. host_stub conformance-host record.jsonl
)";

/// The options of the plugin for every run.
std::string options_of_runs(const std::string& record) {
  std::string value, lines;
  for (const char c : record) value += c == ',' ? ",," : std::string(1, c);
  for (const ConformanceRun& run : conformance_runs())
    lines += fmt::format("record={},run={}\n", value, run.name);
  return lines;
}

std::string table_of_runs() {
  std::string lines = "\nRuns, and what the VMM does in them:\n";
  for (const ConformanceRun& run : conformance_runs())
    lines += fmt::format("  {:<21}{}\n", run.name, run.vmm);
  return lines;
}

}  // namespace

int conformance_command(const Arguments& arguments) {
  std::vector<std::string> records;
  std::string runs;
  bool json = false, list = false, help = false;
  po::options_description d("host_stub conformance-host: judges a host of plugins by RECORD...");
  // clang-format off
  d.add_options()
    ("runs", po::value(&runs)->value_name("RECORD"),
     "print the plugin's options for every run that is recorded to this file")
    ("list", po::bool_switch(&list), "the rules that are judged, a line each")
    ("json", po::bool_switch(&json), "the verdicts as JSON")
    ("record", po::value(&records)->value_name("RECORD"), "a file that the plugin wrote")
    ("help", po::bool_switch(&help), "this text");
  // clang-format on
  if (!parse_arguments("conformance-host", arguments, d,
                       po::positional_options_description().add("record", -1)))
    return kExitUsage;
  if (help) {
    fmt::print(
        "{}{}{}\nExit status: 0 no rule broken; 1 one was, or nothing was seen; 2 usage, or no "
        "record.\n",
        help_of(d), kUse, table_of_runs());
    return kExitGood;
  }
  if (list) {
    fmt::print("{}", list_of_rules(conformance_rules()));
    return kExitGood;
  }
  if (!runs.empty()) {
    fmt::print("{}", options_of_runs(runs));
    return kExitGood;
  }
  if (records.empty()) {
    print_error(
        "conformance-host: no record; 'host_stub conformance-host --help' says how to make one");
    return kExitUsage;
  }
  const auto instances = read_records(records);
  if (!instances) {
    print_error(fmt::format("conformance-host: {}", instances.error()));
    return kExitUsage;
  }
  return print_report(judge_host(*instances), json);
}

}  // namespace host_stub
