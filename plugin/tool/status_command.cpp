// SPDX-License-Identifier: MIT
//
// svm-pmu status: which VMs of this host are protected.
#include <fmt/format.h>

#include <boost/program_options.hpp>

#include "tool/colour.hpp"
#include "tool/command.hpp"
#include "tool/vm_status.hpp"

namespace svm_pmu::tool {

namespace po = boost::program_options;

namespace {

struct Wanted {
  std::string format;
  int32_t pid = 0;  ///< 0: all processes
  bool json = false, require_plugin = false, help = false;
};

po::options_description description_of(Wanted& wanted) {
  po::options_description d("svm-pmu status: which VMs of this host are protected");
  // clang-format off
  d.add_options()
    ("format", po::value(&wanted.format)->default_value("text")->value_name("text|json|prometheus"),
     "text, json or prometheus (for the textfile collector of node_exporter)")
    ("json", po::bool_switch(&wanted.json), "as --format=json")
    ("pid", po::value(&wanted.pid)->value_name("PID"),
     "only the VMs of this process; status 3 if it has none")
    ("require-plugin", po::bool_switch(&wanted.require_plugin),
     "a VM without the plugin is not protected, not even on a host that has neither bug")
    ("help", po::bool_switch(&wanted.help), "this text");
  // clang-format on
  return d;
}

constexpr const char* kNotes =
    "A VM is protected if svm_pmu takes its vPMU away or resets it. It is not if its process runs\n"
    "without libvmm_preload.so or svm_pmu, if resets failed, or if its VMM was told that the "
    "guest\n"
    "has no PMU (pmu=off, -pmu) and the guest has one. A VMM with fixes of its\n"
    "own cannot be recognized from outside, so it counts as not protected. RESETS counts calls of "
    "vcpu_reset, one per\n"
    "vCPU and reset.\n"
    "Only root sees the processes of other users. Run it on the host: there it sees VMMs in\n"
    "containers, too; in a container it sees those of this container only.\n\n"
    "Exit status: 0 all are protected, or there is none; 1 some are not; 3 something could not be\n"
    "read; 2 usage.\n";

}  // namespace

int status_command(const Arguments& arguments) {
  Wanted wanted;
  const po::options_description description = description_of(wanted);
  if (!parse_arguments("status", arguments, description)) return kExitUsage;
  if (wanted.help) {
    fmt::print("{}\n{}", help_of(description), kNotes);
    return kExitGood;
  }
  if (wanted.pid < 0) {
    print_error(fmt::format("status: --pid={}; a process number is above 0", wanted.pid));
    return kExitUsage;
  }
  if (wanted.json) wanted.format = "json";
  const HostStatus status = judge(scan_host("", wanted.pid), wanted.require_plugin);
  if (wanted.format == "json")
    fmt::print("{}", json_of(status));
  else if (wanted.format == "prometheus")
    fmt::print("{}", prometheus_of(status));
  else if (wanted.format == "text")
    fmt::print("{}", text_of(status, colour_wanted()));
  else {
    print_error(
        fmt::format("status: --format={}; allowed are text, json and prometheus", wanted.format));
    return kExitUsage;
  }
  return wanted.pid != 0 && status.vms.empty() ? kExitUnknown : exit_status(status);
}

}  // namespace svm_pmu::tool
