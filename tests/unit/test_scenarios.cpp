// SPDX-License-Identifier: MIT
//
// What VMMs, guests and hosts do that the stub and the simulated KVM can play: each row is a
// scenario, how it ends, and lines that must and must not be said.
#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <fstream>
#include <ostream>
#include <string>
#include <vector>

#include "support/process.hpp"

namespace bdata = boost::unit_test::data;

namespace {

const std::string kBuild = TEST_BUILD_DIR;
const std::string kPlugin = kBuild + "/plugin/svm_pmu.so";

constexpr const char* kOff = "pmu-cap-disabled=on";
constexpr const char* kDriver = "AMD PMU driver.";
constexpr const char* kNoPmu =
    "Performance Events: PMU not available due to virtualization, using software events only.";
constexpr const char* kBroken = "Broken BIOS";
constexpr const char* kUhhuh = "Uhhuh. NMI received";
constexpr const char* kDead = "perf runs in the guest and its counters do not count";

struct Row {
  const char* what;
  std::vector<std::string> arguments;  ///< of host_stub run
  int status;
  std::vector<std::string> said, unsaid;
};
std::ostream& operator<<(std::ostream& out, const Row& row) { return out << row.what; }

/// `options` on the first host with the plugin.
std::vector<std::string> with_plugin(const char* options, std::vector<std::string> arguments) {
  arguments.insert(arguments.end(), {"--plugin", kPlugin, "--options", options});
  return arguments;
}

void check(const Row& row) {
  std::vector<std::string> command{kBuild + "/host_stub/host_stub", "run"};
  command.insert(command.end(), row.arguments.begin(), row.arguments.end());
  const ProcessResult result = run_process(command);
  BOOST_TEST_CONTEXT("out: " << result.out << "err: " << result.err) {
    BOOST_TEST(result.status == row.status);
    const std::string all = result.out + result.err;
    for (const std::string& text : row.said)
      BOOST_TEST((all.find(text) != std::string::npos), "not said: " << text);
    for (const std::string& text : row.unsaid)
      BOOST_TEST((all.find(text) == std::string::npos), "said: " << text);
  }
}

}  // namespace

// ---- VMMs --------------------------------------------------------------------------------------

const Row kVmms[] = {
    {"QEMU 11 writes the registers at each reset",
     {"--vmm", "qemu-11", "--scenario", "boot,perf,reset,boot"},
     0,
     {"c0010201=0", kDriver},
     {kBroken, kUhhuh}},
    {"QEMU 11 with pmu=off turns the vPMU off and writes nothing",
     {"--vmm", "qemu-11", "--guest-pmu", "off", "--scenario", "boot,reset,boot"},
     0,
     {"KVM_ENABLE_CAP", "PMU not available"},
     {"KVM_SET_MSRS", kDriver}},
    {"QEMU 11 with pmu=off on a KVM without the capability does neither",
     {"--kvm", "sim:linux-5.10", "--vmm", "qemu-11", "--guest-pmu", "off", "--scenario",
      "boot,perf,reset,boot"},
     1,
     {kDriver, kBroken},
     {"KVM_ENABLE_CAP", "KVM_SET_MSRS"}},
    {"QEMU 11 aborts where CPUID has PerfCtrExtCore and the vPMU is off",
     {"--vmm", "qemu-11", "--kvm", "sim,enable_pmu=N", "--cpuid", "core"},
     1,
     {"QEMU 11 aborts: error: failed to set MSR 0xc0010201 to 0x0"},
     {}},
    {"and lives where CPUID has it not",
     {"--vmm", "qemu-11", "--kvm", "sim,enable_pmu=N", "--cpuid", "plain", "--scenario",
      "boot,reset,boot"},
     0,
     {kNoPmu},
     {}},
    {"QEMU 11 writes GLOBAL_CTL 0, so that a guest of before 5.19 counts nothing",
     {"--vmm", "qemu-11", "--kvm", "sim,host-perfmonv2", "--cpuid", "v2", "--old-guest",
      "--scenario", "boot,perf"},
     1,
     {kDead},
     {}},
    {"a VMM that turns the capability on again is found out, and the vPMU is reset",
     with_plugin(kOff, {"--vmm", "enables-pmu"}),
     0,
     {"KVM_ENABLE_CAP", "the vPMU is on although it was switched off", kDriver},
     {kBroken}},
    {"with strict=on such a VM does not run",
     with_plugin("pmu-cap-disabled=on,strict=on", {"--vmm", "enables-pmu"}),
     1,
     {"the vPMU is on although it should be off (strict=on)"},
     {kDriver}},
};
BOOST_DATA_TEST_CASE(what_vmms_do_to_the_pmu_themselves, bdata::make(kVmms), row) { check(row); }

// ---- hosts -------------------------------------------------------------------------------------

const Row kHosts[] = {
    {"the line of a guest without PMU and without PerfCtrExtCore has no prefix",
     with_plugin(kOff, {"--cpuid", "plain", "--scenario", "boot"}),
     0,
     {kNoPmu},
     {"Fam17h"}},
    {"counters that the host holds do not count for the guest",
     {"--kvm", "sim,host-perf-busy", "--scenario", "boot,perf"},
     1,
     {kDriver, kDead},
     {}},
    {"the host's NMI watchdog leaves enough of them",
     {"--kvm", "sim,host-perf-busy=1", "--scenario", "boot,perf"},
     0,
     {kDriver},
     {kDead}},
    {"PerfMonV2 without PerfCtrExtCore: Linux takes the four old counters",
     with_plugin("verify=on", {"--kvm", "sim,host-perfmonv2", "--cpuid", "v2-only", "--scenario",
                               "boot,perf,reset,boot,perf"}),
     0,
     {"Performance Events: AMD PMU driver."},
     {kBroken, kUhhuh}},
    {"ignore_msrs=1 hides no counter from a reset",
     with_plugin("verify=on", {"--kvm", "sim:linux-6.12,ignore_msrs=1", "--scenario",
                               "boot,perf,reset,boot,run"}),
     0,
     {kDriver},
     {kBroken, kUhhuh}},
    {"Linux 5.4 has no filter and no capability",
     with_plugin("pmu-cap-disabled=on,strict=on", {"--kvm", "sim:linux-5.4"}),
     1,
     {"no KVM_CAP_PMU_CAPABILITY (Linux 5.18)", "no KVM_CAP_X86_MSR_FILTER (Linux 5.10)"},
     {}},
    {"and its resets work",
     with_plugin("verify=on", {"--kvm", "sim:linux-5.4"}),
     0,
     {kDriver},
     {kBroken, kUhhuh}},
    {"Linux 5.15: the filter",
     with_plugin(kOff, {"--kvm", "sim:linux-5.15"}),
     0,
     {"PMU not available"},
     {kDriver}},
};
BOOST_DATA_TEST_CASE(what_hosts_are_like, bdata::make(kHosts), row) { check(row); }

// ---- steps -------------------------------------------------------------------------------------

const Row kSteps[] = {
    {"kexec: no reset, so nothing helps",
     with_plugin("", {"--scenario", "boot,perf,kexec"}),
     1,
     {kBroken, kUhhuh},
     {}},
    {"the reset after it does",
     with_plugin("", {"--scenario", "boot,perf,stop-perf,kexec,reset,boot"}),
     0,
     {kDriver},
     {kUhhuh}},
    {"loadvm: the reverted guest's perf counts on",
     with_plugin("", {"--scenario", "boot,perf,save,reset,boot,loadvm,run"}),
     0,
     {},
     {kDead}},
    {"loadvm without a list of the plugin's: it does not",
     {"--scenario", "boot,perf,save,stop-perf,loadvm,run"},
     1,
     {kDead},
     {}},
    {"loadvm before save", {"--scenario", "boot,loadvm"}, 1, {"nothing was saved before"}, {}},
    {"a vCPU that was unplugged is reset",
     with_plugin("", {"--vcpus", "2", "--scenario", "boot,perf,unplug,run"}),
     0,
     {"vcpu_reset(vCPU 1) = 0"},
     {kUhhuh}},
    {"a VM with one vCPU has none to unplug", {"--scenario", "boot,unplug"}, 1, {"--vcpus 2"}, {}},
};
BOOST_DATA_TEST_CASE(what_happens_to_a_vm, bdata::make(kSteps), row) { check(row); }

// ---- migration ---------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_migration_takes_the_counters_along) {
  check({"",
         with_plugin("", {"--vcpus", "2", "--scenario",
                          "boot,perf,migrate:sim:linux-7.2+host-perfmonv2,run,reset,boot"}),
         0,
         {"== migrate: sim:linux-7.2,host-perfmonv2",
          "== create: 2 vCPUs on sim:linux-7.2,host-perfmonv2", kDriver},
         {kDead, kBroken, kUhhuh}});
}

/// Each command of the page on migration, and the comment after it: "# STATUS: what is said", or
/// "# STATUS, not said: what is not".
BOOST_AUTO_TEST_CASE(the_page_on_migration_says_what_is_so) {
  std::ifstream page(MIGRATION_PAGE);
  std::string command;
  int commands = 0;
  for (std::string line; std::getline(page, line);) {
    if (line.rfind("host_stub run ", 0) == 0) {
      command = line;
    } else if (!command.empty() && command.back() == '\\') {
      command.pop_back();
      command += line;
    } else if (line.rfind("# ", 0) == 0 && !command.empty()) {
      ++commands;
      const ProcessResult result =
          run_process({"/bin/bash", "-c",
                       "PATH=" + kBuild + "/host_stub:$PATH; P=" + kPlugin + "; " + command});
      const std::string absent = ", not said: ";
      const bool unsaid = line.find(absent) == 3;
      const std::string text = line.substr(unsaid ? 3 + absent.size() : 5);
      const bool said = (result.out + result.err).find(text) != std::string::npos;
      BOOST_TEST_CONTEXT(command << "\n" << result.out << result.err) {
        BOOST_TEST(result.status == line[2] - '0');
        BOOST_TEST(said == !unsaid, line);
      }
      command.clear();
    }
  }
  BOOST_TEST(commands >= 10);
}

BOOST_AUTO_TEST_CASE(a_migration_that_the_target_refuses_leaves_the_vm_where_it_is) {
  check({"",
         with_plugin("strict=on", {"--scenario", "boot,perf,migrate:sim+enable_pmu=N,run"}),
         1,
         {"== migrate: WRONG: vCPU 0: MSR c0010201 cannot be restored to "},
         {kDead}});
}

const Row kBadUsages[] = {
    {"a step that wants a host",
     {"--scenario", "boot,migrate"},
     2,
     {"allowed is migrate:SPEC"},
     {}},
    {"a step that wants none", {"--scenario", "boot:sim"}, 2, {"'boot:sim': allowed is boot"}, {}},
    {"no such host", {"--scenario", "migrate:sim:linux-4.4"}, 2, {"migrate: ", "linux-4.4"}, {}},
    {"no such VMM",
     {"--vmm", "xen"},
     2,
     {"--vmm 'xen': allowed are stub, qemu-11, enables-pmu"},
     {}},
    {"no such wish", {"--guest-pmu", "maybe"}, 2, {"allowed are unsaid, off, on"}, {}},
    {"options for no plugin", {"--to-options", "strict=on"}, 2, {"--to-options without"}, {}},
    {"options for none",
     {"--to-plugin", "none", "--to-options", "strict=on"},
     2,
     {"--to-options without"},
     {}},
    {"counters of a plain CPUID", {"--cpuid", "core=4"}, 2, {"guest CPUID 'core=4'"}, {}},
};
BOOST_DATA_TEST_CASE(bad_usage_is_named_and_nothing_is_done, bdata::make(kBadUsages), row) {
  check(row);
}
