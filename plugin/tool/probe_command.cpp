// SPDX-License-Identifier: MIT
//
// svm-pmu probe: what this host's KVM has, which bugs, and what the plugin does here.
#include <fmt/format.h>

#include <boost/program_options.hpp>

#include "tool/command.hpp"
#include "tool/kvm_device.hpp"
#include "tool/report.hpp"

namespace svm_pmu::tool {

namespace po = boost::program_options;

namespace {

struct Wanted {
  ProbeOptions probe;
  std::string device = "/dev/kvm";
  bool help = false;
};

po::options_description description_of(Wanted& wanted) {
  po::options_description d(
      "svm-pmu probe: what this host's KVM has, and what the plugin does here");
  // clang-format off
  d.add_options()
    ("plugin", po::value(&wanted.probe.plugin)->value_name("FILE"),
     "the plugin to try: a path, or the name of an installed plugin (svm_pmu.so)")
    ("options", po::value(&wanted.probe.settings)->value_name("LIST"),
     "the plugin's options to try, KEY=VALUE,KEY=VALUE; may be repeated. Without it: off, and each method of pmu-cap-disabled=on")
    ("device", po::value(&wanted.device)->value_name("PATH"), "KVM's device (/dev/kvm)")
    ("json", po::bool_switch(&wanted.probe.json), "one JSON object")
    ("help", po::bool_switch(&wanted.help), "this text");
  // clang-format on
  return d;
}

constexpr const char* kNotes =
    "It makes VMs that run nothing, and closes them. If the vPMU is off, KVM may log one line,\n"
    "\"Unhandled WRMSR(0xc0010004)\" (kvm.report_ignored_msrs). If it is on, probe opens pinned "
    "perf\n"
    "events for a moment, as many as a guest has counters, to see how many of them run.\n\n"
    "Exit status: 0 KVM answered; 1 it did not, or a plugin or an option that was named here lets\n"
    "no VM start; 2 usage.\n";

}  // namespace

int probe_command(const Arguments& arguments) {
  Wanted wanted;
  const po::options_description description = description_of(wanted);
  if (!parse_arguments("probe", arguments, description)) return kExitUsage;
  if (wanted.help) {
    fmt::print("{}\n{}", help_of(description), kNotes);
    return kExitGood;
  }
  const auto kvm = open_kvm_device(wanted.device);
  const auto printed = kvm ? print_probe(**kvm, wanted.probe)
                           : tl::expected<void, std::string>(tl::unexpected(kvm.error()));
  if (printed) return kExitGood;
  print_error(fmt::format("probe: {}", printed.error()));
  return kExitWrong;
}

}  // namespace svm_pmu::tool
