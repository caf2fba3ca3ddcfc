// SPDX-License-Identifier: MIT
//
// host_stub probe: svm-pmu's probe, on a simulated KVM as well.
#include <fmt/format.h>

#include <boost/program_options.hpp>

#include "cli/command.hpp"
#include "cli/probed_kvm.hpp"
#include "sim/backend.hpp"
#include "tool/kvm_device.hpp"
#include "tool/report.hpp"

namespace host_stub {

namespace po = boost::program_options;

namespace {

tl::expected<void, std::string> probe(const std::string& spec,
                                      const svm_pmu::tool::ProbeOptions& options) {
  if (spec.find('/') != std::string::npos)
    return svm_pmu::tool::open_kvm_device(spec).and_then(
        [&](const auto& kvm) { return svm_pmu::tool::print_probe(*kvm, options); });
  return open_kvm(spec).and_then([&](const auto& kvm) {
    ProbedKvm probed(*kvm);
    return svm_pmu::tool::print_probe(probed, options);
  });
}

}  // namespace

int probe_command(const Arguments& arguments) {
  std::string spec;
  svm_pmu::tool::ProbeOptions options;
  bool help = false;
  po::options_description d("host_stub probe: svm-pmu probe, on a simulated KVM as well");
  // clang-format off
  d.add_options()
    ("kvm", po::value(&spec)->default_value("/dev/kvm")->value_name("SPEC"),
     "/dev/kvm, or sim[:KERNEL][,SWITCH]...")
    ("plugin", po::value(&options.plugin)->value_name("FILE"), "the plugin to try (svm_pmu.so)")
    ("options", po::value(&options.settings)->value_name("KEY=VALUE,..."),
     "the plugin's options to try; may be repeated")
    ("json", po::bool_switch(&options.json), "one JSON object")
    ("help", po::bool_switch(&help), "this text");
  // clang-format on
  if (!parse_arguments("probe", arguments, d)) return kExitUsage;
  if (help) {
    fmt::print("{}\nWhat it says and its exit status: svm-pmu(1).\n", help_of(d));
    return kExitGood;
  }
  const auto printed = probe(spec, options);
  if (printed) return kExitGood;
  print_error(fmt::format("probe: {}", printed.error()));
  return kExitWrong;
}

}  // namespace host_stub
