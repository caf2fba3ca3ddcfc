// SPDX-License-Identifier: MIT
//
// host_stub facts: what a KVM does with the AMD PMU registers and capabilities, as JSON lines.
#include <fmt/format.h>

#include <boost/program_options.hpp>

#include "cli/command.hpp"
#include "kvm/facts.hpp"
#include "sim/backend.hpp"

namespace host_stub {

namespace po = boost::program_options;

int facts_command(const Arguments& arguments) {
  std::string spec;
  bool irqchip = false, help = false;
  po::options_description d("host_stub facts: asks a KVM about the AMD PMU, JSON lines");
  // clang-format off
  d.add_options()
    ("kvm", po::value(&spec)->default_value("/dev/kvm")->value_name("SPEC"),
     "/dev/kvm, or sim[:KERNEL][,SWITCH]...")
    ("irqchip", po::bool_switch(&irqchip), "VMs have an in-kernel interrupt controller")
    ("help", po::bool_switch(&help), "this text");
  // clang-format on
  if (!parse_arguments("facts", arguments, d)) return kExitUsage;
  if (help) {
    fmt::print("{}", help_of(d));
    return kExitGood;
  }
  auto kvm = open_kvm(spec);
  if (!kvm) {
    print_error(fmt::format("facts: {}", kvm.error()));
    return kExitWrong;
  }
  for (const std::string& line : kvm_facts(**kvm, irqchip)) fmt::print("{}\n", line);
  return kExitGood;
}

}  // namespace host_stub
