// SPDX-License-Identifier: MIT
//
// The host_stub program as a user meets it: what it says, its exit status, and that bad input
// leaves nothing half done.
#include <sys/stat.h>
#include <unistd.h>

#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>
#include <regex>
#include <sstream>
#include <string>

#include "support/bad_options.hpp"
#include "support/machine.hpp"
#include "support/process.hpp"
#include "support/said.hpp"

namespace bdata = boost::unit_test::data;

namespace {

const std::string kBuild = TEST_BUILD_DIR;
const std::string kHostStub = kBuild + "/host_stub/host_stub";
const std::string kPlugin = kBuild + "/plugin/svm_pmu.so";

ProcessResult host_stub(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), kHostStub);
  return run_process(arguments);
}

constexpr const char* kFirmwareBug =
    "[Firmware Bug]: the BIOS has corrupted hw-PMU resources (MSR c0010200 is 530076)";
constexpr const char* kNoPmu =
    "PMU not available due to virtualization, using software events only.";

}  // namespace

BOOST_AUTO_TEST_SUITE(cli)

// ---- the two fixes -----------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(without_the_plugin_the_guest_finds_stale_selectors_after_a_reset) {
  const auto result = host_stub({"run", "--scenario", "boot,perf,reset,boot", "--vcpus", "2"});
  BOOST_TEST(result.status == 1);
  BOOST_TEST(contains(result.out, "Broken BIOS detected, complain to your hardware vendor."));
  BOOST_TEST(contains(result.out, kFirmwareBug));
  BOOST_TEST(contains(result.out, "Uhhuh. NMI received for unknown reason"));
}

BOOST_AUTO_TEST_CASE(with_the_plugin_it_finds_none) {
  const auto result = host_stub(
      {"run", "--plugin", kPlugin, "--scenario", "boot,perf,reset,boot,run", "--vcpus", "2"});
  BOOST_TEST(result.status == 0);
  BOOST_TEST(contains(result.out, "AMD PMU driver."));
  BOOST_TEST(!contains(result.out, "Broken BIOS"));
  BOOST_TEST(!contains(result.out, "Uhhuh"));
}

BOOST_AUTO_TEST_CASE(without_the_option_the_guest_has_a_pmu_and_with_it_none) {
  const auto before = host_stub({"run", "--scenario", "boot"});
  BOOST_TEST(contains(before.out, "Performance Events: Fam17h+ core perfctr, AMD PMU driver."));
  const auto after = host_stub({"run", "--plugin", kPlugin, "--options", "pmu-cap-disabled=true",
                                "--scenario", "boot,perf,reset,boot"});
  BOOST_TEST(after.status == 0);
  BOOST_TEST(contains(after.out, kNoPmu));
  BOOST_TEST(!contains(after.out, "AMD PMU driver."));
}

BOOST_AUTO_TEST_CASE(a_reset_that_left_global_ctl_0_would_be_seen_by_an_old_guest) {
  // a guest kernel before 5.19 never writes GLOBAL_CTL: it needs the value after RESET
  const auto result =
      host_stub({"run", "--kvm", "sim:linux-6.12,host-perfmonv2", "--cpuid", "v2", "--old-guest",
                 "--plugin", kPlugin, "--scenario", "boot,perf,reset,boot,perf"});
  BOOST_TEST(result.status == 0);
  BOOST_TEST(contains(result.out, "c0000301=3f"));
}

BOOST_AUTO_TEST_CASE(a_batch_of_the_host_saves_the_plugin_its_own_ioctl) {
  const auto result = host_stub({"run", "--plugin", kPlugin, "--batch", "--scenario",
                                 "boot,perf,reset,boot", "--vcpus", "2"});
  BOOST_TEST(result.status == 0);
  BOOST_TEST(!contains(result.out, "Broken BIOS"));
}

BOOST_AUTO_TEST_CASE(state_survives_save_and_restore) {
  const auto result =
      host_stub({"run", "--plugin", kPlugin, "--scenario", "boot,perf,save,run,restore,run",
                 "--kvm", "sim:linux-6.12,host-perfmonv2", "--cpuid", "v2"});
  BOOST_TEST(result.status == 0);
}

// ---- bad input ---------------------------------------------------------------------------------

/// Nothing half done: no VM was made.
void check_refused(const ProcessResult& result, int status, const std::string& names) {
  BOOST_TEST_CONTEXT("out: " << result.out << "err: " << result.err) {
    BOOST_TEST(result.status == status);
    BOOST_TEST(contains(result.err, "host_stub: error: "));
    BOOST_TEST(contains(result.err, names));
    BOOST_TEST(!contains(result.out, "KVM_CREATE_VM"));
  }
}

BOOST_DATA_TEST_CASE(bad_options_stop_the_run, bdata::make(kBadOptions), row) {
  check_refused(host_stub({"run", "--plugin", kPlugin, "--options", row.options}), 1, row.names);
}

BOOST_AUTO_TEST_CASE(options_of_a_hundred_kilobytes_stop_the_run) {
  // a command line argument cannot hold 1 MiB (MAX_ARG_STRLEN is 128 KiB); the parser's own test
  // can
  check_refused(host_stub({"run", "--plugin", kPlugin, "--options", std::string(100'000, 'a')}), 1,
                "the string has 100000 bytes, but at most 4096");
}

struct BadPlugin {
  const char* what;
  const char* path;  ///< below the build folder, or absolute
  const char* names;
};
std::ostream& operator<<(std::ostream& out, const BadPlugin& row) { return out << row.what; }
constexpr BadPlugin kBadPlugins[] = {
    {"no entry", "tests/unit/plugins/plugin_no_entry.so", "does not export vmm_plugin_v1"},
    {"entry of a newer major", "tests/unit/plugins/plugin_entry_v2.so",
     "is a plugin of ABI major 2, this host needs 1"},
    {"descriptor of a newer major", "tests/unit/plugins/plugin_major.so",
     "is a plugin of ABI major 2, this host needs 1"},
    {"descriptor too small", "tests/unit/plugins/plugin_small.so", "its descriptor has 8 bytes"},
    {"unknown flags", "tests/unit/plugins/plugin_flags.so", "unknown flags"},
    {"NULL descriptor", "tests/unit/plugins/plugin_null.so", "vmm_plugin_v1 returned NULL"},
    {"no version", "tests/unit/plugins/plugin_no_version.so",
     "'version' of its descriptor is NULL"},
    {"no create", "tests/unit/plugins/plugin_no_create.so", "'create' of its descriptor is NULL"},
    {"a text file", "CMakeCache.txt", "cannot be loaded"},
    {"a directory", "tests", "cannot be loaded"},
    {"not there", "no/such/plugin.so", "cannot be loaded"},
};

BOOST_DATA_TEST_CASE(bad_plugins_stop_the_run, bdata::make(kBadPlugins), row) {
  const std::string path = kBuild + "/" + row.path;
  const auto result = host_stub({"run", "--plugin", path});
  check_refused(result, 1, row.names);
  BOOST_TEST(contains(result.err, path));
}

BOOST_AUTO_TEST_CASE(a_plugin_is_found_by_its_name) {
  for (const char* name : {"svm_pmu.so", "svm_pmu"})
    BOOST_TEST(host_stub({"run", "--plugin", name, "--scenario", "boot"}).status == 0);
  BOOST_TEST(host_stub({"validate", "svm_pmu.so", "--rule", "VMM-1"}).status ==
             host_stub({"validate", kPlugin, "--rule", "VMM-1"}).status);
  check_refused(host_stub({"run", "--plugin", "nosuch.so"}), 1, "nosuch.so");
  BOOST_TEST(host_stub({"version"}).out == host_stub({"--version"}).out);
  BOOST_TEST(host_stub({"list"}).status == 0);
  BOOST_TEST(host_stub({"--help"}).out.starts_with(host_stub({"list"}).out));
}

BOOST_AUTO_TEST_CASE(an_empty_plugin_path_is_said_to_be_empty) {
  check_refused(host_stub({"run", "--plugin", ""}), 1, "plugin path is empty");
}

struct BadUsage {
  const char* what;
  std::vector<std::string> arguments;
  const char* names;
};
std::ostream& operator<<(std::ostream& out, const BadUsage& row) { return out << row.what; }
const BadUsage kBadUsages[] = {
    {"no such command", {"fly"}, "no command 'fly'"},
    {"no such option", {"run", "--fast"}, "--fast"},
    {"no such step", {"run", "--scenario", "boot,jump"}, "no step 'jump'; there are boot"},
    {"empty step", {"run", "--scenario", "boot,,boot"}, "no step ''"},
    {"no such kernel", {"run", "--kvm", "sim:linux-4.4"}, "linux-4.4"},
    {"no such switch", {"run", "--kvm", "sim:linux-6.1,fast"}, "fast"},
    {"no such backend", {"run", "--kvm", "xen"}, "'xen' is neither"},
    {"no such device", {"run", "--kvm", "/no/kvm"}, "/no/kvm"},
    {"no vCPU", {"run", "--vcpus", "0"}, "--vcpus 0: allowed are 1 to 1024"},
    {"vCPUs not a number", {"run", "--vcpus", "many"}, "--vcpus"},
    {"negative vCPUs", {"run", "--vcpus", "-1"}, "--vcpus"},
    {"no such CPUID model", {"run", "--cpuid", "v3"}, "guest CPUID 'v3'"},
    {"too many counters", {"run", "--cpuid", "v2=16"}, "v2=16"},
    {"no such fault", {"run", "--fault", "set_msrs:EFUN"}, "EFUN"},
    {"options without plugin", {"run", "--options", "strict=on"}, "--options without a --plugin"},
};

BOOST_DATA_TEST_CASE(bad_usage_is_named, bdata::make(kBadUsages), row) {
  check_refused(host_stub(row.arguments), 2, row.names);
}

BOOST_AUTO_TEST_CASE(a_refused_capability_stops_the_vm_with_ioctl_and_errno) {
  const auto result = host_stub({"run", "--plugin", kPlugin, "--options", "pmu-cap-disabled=on",
                                 "--fault", "enable_cap:EINVAL"});
  BOOST_TEST(result.status == 1);
  BOOST_TEST(contains(result.err, "KVM_ENABLE_CAP(KVM_CAP_PMU_CAPABILITY) failed: EINVAL"));
  BOOST_TEST(!contains(result.out, "KVM_CREATE_VCPU id="));
}

BOOST_AUTO_TEST_CASE(a_closed_descriptor_fails_the_reset_with_ioctl_register_and_errno) {
  const auto result =
      host_stub({"run", "--plugin", kPlugin, "--fault", "set_msrs:EBADF", "--scenario", "boot"});
  BOOST_TEST(result.status == 1);
  BOOST_TEST(contains(result.out, "KVM_SET_MSRS of 12 MSRs from c0010200 on failed: EBADF"));
}

BOOST_AUTO_TEST_CASE(a_busy_host_is_told_what_to_do) {
  const auto result =
      host_stub({"run", "--kvm", "sim:linux-7.2,host-perfmonv2,mediated,host-perf-busy"});
  BOOST_TEST(result.status == 1);
  BOOST_TEST(contains(result.err, "KVM_CREATE_VCPU failed"));
  BOOST_TEST(contains(result.err, "kernel.nmi_watchdog=0"));
  const auto off =
      host_stub({"run", "--kvm", "sim:linux-7.2,host-perfmonv2,mediated,host-perf-busy", "--plugin",
                 kPlugin, "--options", "pmu-cap-disabled=on"});
  BOOST_TEST(off.status == 0);
}

// ---- form --------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(help_shows_commands_and_examples) {
  for (const char* word : {"--help", "help"}) {
    const auto result = host_stub({word});
    BOOST_TEST(result.status == 0);
    BOOST_TEST(contains(result.out, "Examples:"));
    BOOST_TEST(contains(result.out, "host_stub run"));
  }
  BOOST_TEST(host_stub({"run", "--help"}).status == 0);
  BOOST_TEST(host_stub({}).status == 2);
  BOOST_TEST(host_stub({"--version"}).out.rfind("host_stub 1.", 0) == 0u);
}

BOOST_AUTO_TEST_CASE(help_all_is_the_help_of_every_command) {
  const std::string main_help = host_stub({"--help"}).out, all = host_stub({"--help-all"}).out;
  const std::regex command("^  ([a-z]+)  ");
  int commands = 0;
  std::istringstream lines(main_help);
  std::smatch match;
  for (std::string line; std::getline(lines, line);) {
    if (!std::regex_search(line, match, command)) continue;
    ++commands;
    BOOST_TEST(contains(all, host_stub({match[1], "--help"}).out));
  }
  BOOST_TEST(commands >= 4);
}

BOOST_AUTO_TEST_CASE(json_is_one_object_a_line) {
  const auto result = host_stub({"run", "--plugin", kPlugin, "--json"});
  BOOST_TEST(result.status == 0);
  std::istringstream lines(result.out);
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const auto object = nlohmann::json::parse(line, nullptr, false);
    BOOST_REQUIRE_MESSAGE(object.is_object(), line);
    BOOST_TEST(object.contains("event"));
  }
  BOOST_TEST(count > 10);
}

BOOST_AUTO_TEST_CASE(colour_stays_on_terminals) {
  BOOST_TEST(!contains(host_stub({"run"}).out, "\033"));
}

BOOST_AUTO_TEST_CASE(an_expectation_that_is_not_met_fails_the_run) {
  BOOST_TEST(host_stub({"run", "--scenario", "boot", "--expect", "AMD PMU driver"}).status == 0);
  BOOST_TEST(host_stub({"run", "--scenario", "boot", "--expect", "HYGON"}).status == 1);
  BOOST_TEST(host_stub({"run", "--scenario", "boot", "--expect-not", "AMD PMU"}).status == 1);
}

BOOST_AUTO_TEST_CASE(the_same_scenario_runs_on_the_real_kvm) {
  if (skipped_without_kvm()) return;
  const auto result =
      host_stub({"run", "--kvm", "/dev/kvm", "--vcpus", "2", "--plugin", kPlugin, "--options",
                 "pmu-cap-disabled=on,pmu-off-method=msr-filter,log-level=info", "--scenario",
                 "boot,perf,reset,boot"});
  BOOST_TEST_CONTEXT(result.out << result.err) {
    BOOST_TEST(result.status == 0);
    BOOST_TEST(contains(result.out, "vcpu_reset(vCPU 1) = 0"));
    if (has_amd_cpu()) {
      BOOST_TEST(contains(result.out, kNoPmu));
      BOOST_TEST(contains(result.out, "KVM_SET_MSRS"));
    } else {  // KVM has none of AMD's registers, so none is denied or written
      BOOST_TEST(contains(result.out, "the processor is neither AMD's nor Hygon's"));
      BOOST_TEST(!contains(result.out, "KVM_X86_SET_MSR_FILTER"));
      BOOST_TEST(!contains(result.out, "KVM_SET_MSRS"));
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
