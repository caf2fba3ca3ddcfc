// SPDX-License-Identifier: MIT
//
// host_stub validate: a plugin's file against the rules of the ABI that oblige a plugin.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <boost/program_options.hpp>
#include <charconv>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "check/plugin/validator.hpp"
#include "check/report.hpp"
#include "cli/command.hpp"
#include "host_kit/plugin_library.hpp"
#include "sim/backend.hpp"

namespace host_stub {

namespace po = boost::program_options;

namespace {

/// n of "VMM-n" or "n".
std::optional<unsigned> rule_number(std::string_view text) {
  constexpr std::string_view kPrefix = "VMM-";
  if (text.starts_with(kPrefix)) text.remove_prefix(kPrefix.size());
  unsigned number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

int usage_error(const std::string& text) {
  print_error("validate: " + text);
  return kExitUsage;
}

}  // namespace

int validate_command(const Arguments& arguments) {
  validate::Order order;
  std::vector<std::string> rules;
  unsigned seconds = 0;
  bool json = false, list = false, help = false;
  po::options_description d("host_stub validate: checks a plugin by the rules of abi/ABI.md");
  // clang-format off
  d.add_options()
    ("plugin", po::value(&order.subject.plugin)->value_name("FILE"), "the plugin; may stand without --plugin")
    ("options", po::value(&order.subject.options)->value_name("K=V,.."),
     "valid options for it; none unless given")
    ("kvm", po::value(&order.subject.kvm)->default_value("sim:linux-6.12,host-perfmonv2")
     ->value_name("SPEC"), "the KVM under its VMs: /dev/kvm, or sim[:KERNEL][,SWITCH]...")
    ("rule", po::value(&rules)->value_name("VMM-n"), "only this rule; may be repeated")
    ("timeout", po::value(&seconds)->default_value(10)->value_name("SECONDS"),
     "for each check, 1 to 3600")
    ("list", po::bool_switch(&list), "print the rules that are checked")
    ("json", po::bool_switch(&json), "report as JSON")
    ("help", po::bool_switch(&help), "this text");
  // clang-format on
  po::positional_options_description words;
  words.add("plugin", 1);
  if (!parse_arguments("validate", arguments, d, words)) return kExitUsage;
  if (help) {
    fmt::print("{}\nExit status: 0 nothing failed, 1 something did, 2 usage.\n", help_of(d));
    return kExitGood;
  }
  const std::vector<unsigned> checked = validate::checked_rules();
  if (list) {
    fmt::print("{}", list_of_rules(checked));
    return kExitGood;
  }
  std::string& plugin = order.subject.plugin;
  if (plugin.empty()) return usage_error("needs a plugin: host_stub validate FILE");
  plugin = plugin_path(plugin);
  if (struct stat file{}; stat(plugin.c_str(), &file) != 0 || !S_ISREG(file.st_mode))
    return usage_error(fmt::format("--plugin '{}': no such file", plugin));
  plugin = host_kit::file_to_load(plugin);
  if (seconds < 1 || seconds > 3600)
    return usage_error(fmt::format("--timeout {}: allowed are 1 to 3600 seconds", seconds));
  order.limit = std::chrono::seconds(seconds);
  for (const std::string& text : rules) {
    const auto number = rule_number(text);
    if (!number || std::ranges::find(checked, *number) == checked.end())
      return usage_error(
          fmt::format("--rule '{}': no rule that is checked; 'host_stub validate --list'", text));
    order.rules.push_back(*number);
  }
  if (const auto kvm = open_kvm(order.subject.kvm); !kvm)
    return usage_error(fmt::format("--kvm '{}': {}", order.subject.kvm, kvm.error()));
  return print_report(validate::validate(order), json);
}

}  // namespace host_stub
