// SPDX-License-Identifier: MIT
//
// The probe: its verdict on each simulated host, that the plugin's trial says what the plugin then
// does, and what it says of the real KVM.
#include <algorithm>
#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>

#include "cli/command.hpp"
#include "cli/probed_kvm.hpp"
#include "host_kit/plugin_library.hpp"
#include "matrix/matrix_run.hpp"
#include "sim/backend.hpp"
#include "support/process.hpp"
#include "support/said.hpp"
#include "tool/kvm_device.hpp"
#include "tool/perf_counters.hpp"
#include "tool/probe.hpp"
#include "tool/report.hpp"
#include "tool/trial.hpp"

using namespace svm_pmu::tool;
using host_stub::ProbedKvm;
using host_stub::matrix::Decision;
namespace bdata = boost::unit_test::data;
namespace matrix = host_stub::matrix;

namespace {

const std::string kBuild = TEST_BUILD_DIR;
const std::string kPlugin = kBuild + "/plugin/svm_pmu.so";
const std::string kTool = kBuild + "/plugin/tool/svm-pmu";
const std::string kStub = kBuild + "/host_stub/host_stub";

/// A host and what must be found. `by_...`: what the plugin says of pmu-cap-disabled=on with each
/// pmu-off-method.
struct Verdict {
  const char* spec;
  CounterState counter, without_irqchip;
  bool has_bugs, core, perfmonv2;
  std::size_t pmu_msrs;
  Decision by_auto, by_cap, by_filter;
  const char* says;
};
std::ostream& operator<<(std::ostream& out, const Verdict& v) { return out << v.spec; }

constexpr auto kCap = Decision::off_by_cap, kAlready = Decision::already_off,
               kFilter = Decision::filtered, kNot = Decision::not_possible;
constexpr auto kLive = CounterState::live, kOff = CounterState::off, kBusy = CounterState::busy;

// clang-format off
const Verdict kVerdicts[] = {
    {"sim:linux-5.10", kLive, kLive, true, true, false, 20, kFilter, kNot, kFilter, "Bug 2"},
    {"sim:linux-5.10,counters=4", kLive, kLive, true, false, false, 8, kFilter, kNot, kFilter, "Bug 1"},
    {"sim:linux-6.1", kLive, kLive, true, true, false, 20, kCap, kCap, kFilter, "Bug 1"},
    {"sim:linux-6.1,counters=4", kLive, kLive, true, false, false, 8, kCap, kCap, kFilter, "Bug 1"},
    {"sim:linux-6.1,enable_pmu=N", kOff, kOff, false, false, false, 20, kAlready, kAlready, kFilter, "kvm.enable_pmu is N"},
    {"sim:linux-6.12", kLive, kLive, true, true, false, 20, kCap, kCap, kFilter, "Bug 1"},
    {"sim:linux-6.12,enable_pmu=N", kOff, kOff, false, false, false, 0, kAlready, kAlready, kFilter, "Nothing needs to be done"},
    {"sim:linux-6.12,host-perfmonv2", kLive, kLive, true, true, true, 24, kCap, kCap, kFilter, "Bug 2"},
    {"sim:linux-6.12,vendor=hygon", kLive, kLive, true, true, false, 20, kCap, kCap, kFilter, "Bug 2"},
    {"sim:linux-6.18,enable_pmu=N", kOff, kOff, false, false, false, 0, kAlready, kAlready, kFilter, "kvm.enable_pmu is N"},
    {"sim:linux-7.2", kLive, kLive, true, true, false, 20, kCap, kCap, kFilter, "Bug 2"},
    {"sim:linux-7.2,host-perfmonv2", kLive, kLive, true, true, true, 24, kCap, kCap, kFilter, "Bug 2"},
    {"sim:linux-7.2,host-perfmonv2,mediated", kLive, kOff, true, true, true, 24, kCap, kCap, kFilter, "without in-kernel irqchip"},
    {"sim:linux-7.2,host-perfmonv2,mediated,host-perf-busy", kBusy, kOff, true, true, true, 24, kCap, kCap, kFilter, "nmi_watchdog"},
    {"sim:linux-7.2,host-perfmonv2,mediated,enable_pmu=N", kOff, kOff, false, false, false, 0, kAlready, kAlready, kFilter, "kvm.enable_pmu is N"},
};
// clang-format on

std::unique_ptr<host_stub::Kvm> sim(const std::string& spec) {
  auto kvm = host_stub::open_kvm(spec);
  BOOST_TEST_REQUIRE(kvm.has_value());
  return std::move(*kvm);
}

host_kit::PluginLibrary plugin() {
  auto library = host_kit::PluginLibrary::open(kPlugin);
  BOOST_TEST_REQUIRE(library.has_value());
  return std::move(*library);
}

/// What the plugin decided, by what it said.
std::optional<Decision> decision_of(const Trial& trial) {
  matrix::Observation seen;
  for (const PluginLine& line : trial.lines) seen.log.push_back({line.level, line.text});
  seen.start_error = trial.error;
  return matrix::decision_said(seen);
}

/// What a host finds of a vCPU after the plugin has decided so, on a host whose VMs are `before`.
CounterState counter_after(Decision decision, CounterState before) {
  return decision == Decision::off_by_cap ? kOff : before;
}

bool says(const std::vector<std::string>& sentences, std::string_view part) {
  return std::ranges::any_of(
      sentences, [&](const std::string& line) { return line.find(part) != std::string::npos; });
}

}  // namespace

BOOST_DATA_TEST_CASE(each_simulated_host_gets_its_verdict, bdata::make(kVerdicts), expected) {
  const auto kvm = sim(expected.spec);
  ProbedKvm probed(*kvm);
  const auto probe = probe_kvm(probed);
  BOOST_TEST_REQUIRE(probe.has_value());
  BOOST_TEST((probe->with_irqchip.state == expected.counter));
  BOOST_TEST((probe->without_irqchip.state == expected.without_irqchip));
  BOOST_TEST(probe->has_bugs() == expected.has_bugs);
  BOOST_TEST(probe->perfctr_core == expected.core);
  BOOST_TEST(probe->perfmonv2 == expected.perfmonv2);
  BOOST_TEST(probe->guest_counters() == (expected.core ? 6U : 4U));
  BOOST_TEST(probe->pmu_msrs.size() == expected.pmu_msrs);
  if (probe->offers_cap()) BOOST_TEST((probe->after_cap.state == kOff));
  BOOST_TEST(says(verdict_of(*probe), expected.says));
  BOOST_TEST(says(verdict_of(*probe), "Nothing needs to be done") == !expected.has_bugs);
  BOOST_TEST(says(verdict_of(*probe), "Bug 1") == expected.has_bugs);
}

BOOST_DATA_TEST_CASE(on_each_simulated_host_the_plugin_itself_is_asked, bdata::make(kVerdicts),
                     expected) {
  const auto kvm = sim(expected.spec);
  ProbedKvm probed(*kvm);
  const auto library = plugin();
  const Decision decisions[] = {Decision::nothing, expected.by_auto, expected.by_cap,
                                expected.by_filter, expected.by_auto};
  for (std::size_t i = 0; i < kSettings.size(); ++i) {
    const Trial trial = try_plugin(probed, library, kSettings[i]);
    BOOST_TEST(trial.result == 0, trial.error);
    BOOST_TEST((decision_of(trial) == decisions[i]), kSettings[i]);
    BOOST_TEST((trial.counter.state == counter_after(decisions[i], expected.counter)),
               kSettings[i]);
    BOOST_TEST(trial.cleared.has_value() == (trial.counter.state == kLive), kSettings[i]);
    if (trial.cleared) BOOST_TEST(*trial.cleared, kSettings[i]);
  }
}

BOOST_AUTO_TEST_CASE(an_intel_host_needs_nothing) {
  const auto kvm = sim("sim:linux-6.12,vendor=intel");
  ProbedKvm probed(*kvm);
  const auto probe = probe_kvm(probed);
  BOOST_TEST_REQUIRE(probe.has_value());
  BOOST_TEST(!probe->has_bugs());
  BOOST_TEST(says(verdict_of(*probe), "not an AMD host (GenuineIntel)"));
  BOOST_TEST(says(verdict_of(*probe), "Nothing needs to be done"));
}

BOOST_AUTO_TEST_CASE(a_trial_says_what_the_plugin_says_to_a_vmm) {
  const auto library = plugin();
  uint32_t compared = 0;
  for (const matrix::Case& row : matrix::all_cases()) {
    if (matrix::expectation_of(row).impossible != nullptr || !row.has_plugin()) continue;
    if (row.guest != matrix::GuestPmu::core) continue;  // a trial's guest has what KVM supports
    // and a trial's VMM was told pmu=off
    if (row.off == matrix::PmuOff::vmm_said_on || row.off == matrix::PmuOff::vmm_said_nothing)
      continue;
    if (row.vendor == matrix::VendorPair::amd_host_intel_guest ||
        row.vendor == matrix::VendorPair::intel_host_amd_guest)
      continue;
    const auto kvm = matrix::open_host(row);
    ProbedKvm probed(**kvm);
    const Trial trial = try_plugin(probed, library, row.options());
    const auto said = matrix::decision_said(matrix::observe(row, kPlugin));
    BOOST_TEST((said == decision_of(trial)), row.name());
    ++compared;
  }
  BOOST_TEST_MESSAGE("compared on " << compared << " hosts and settings");
  BOOST_TEST(compared > 0U);
}

BOOST_AUTO_TEST_CASE(a_vm_that_the_plugin_refuses_is_told_with_its_reason) {
  const auto kvm = sim("sim:linux-5.10");
  ProbedKvm probed(*kvm);
  const Trial trial =
      try_plugin(probed, plugin(), "pmu-cap-disabled=on,pmu-off-method=cap,strict=on");
  BOOST_TEST(trial.result == -EOPNOTSUPP);
  BOOST_TEST(contains(trial.error, "vPMU cannot be disabled"));
  const Trial typo = try_plugin(probed, plugin(), "pmu-cap-disable=on");
  BOOST_TEST(typo.result == -EINVAL);
  BOOST_TEST(contains(typo.error, "pmu-cap-disable"));
}

BOOST_AUTO_TEST_CASE(a_reset_that_is_switched_off_is_seen_to_clear_nothing) {
  const auto kvm = sim("sim:linux-6.12");
  ProbedKvm probed(*kvm);
  const Trial trial = try_plugin(probed, plugin(), "pmu-reset=off");
  BOOST_TEST_REQUIRE(trial.cleared.has_value());
  BOOST_TEST(!*trial.cleared);
}

BOOST_AUTO_TEST_CASE(a_capability_that_does_nothing_is_noticed) {
  Probe probe;
  probe.vendor = "AuthenticAMD";
  probe.pmu_capability = 1;
  probe.with_irqchip.state = probe.without_irqchip.state = probe.after_cap.state = kLive;
  BOOST_TEST(says(verdict_of(probe), "does not turn the vPMU off"));
}

BOOST_AUTO_TEST_CASE(a_host_without_a_pmu_is_not_taken_for_one_with_the_parameter_off) {
  Probe probe;
  probe.vendor = "AuthenticAMD";
  probe.host.enable_pmu = "Y";
  probe.with_irqchip.state = probe.without_irqchip.state = kOff;
  BOOST_TEST(says(verdict_of(probe), "no PMU to offer"));
  BOOST_TEST(!says(verdict_of(probe), "is N"));
}

BOOST_AUTO_TEST_CASE(a_kvm_that_makes_no_vcpu_gets_no_verdict) {
  Probe probe;
  probe.vendor = "AuthenticAMD";
  probe.with_irqchip = probe.without_irqchip = {CounterState::not_created, -EPERM};
  BOOST_TEST(says(verdict_of(probe), "the state of the vPMU is unknown"));
  BOOST_TEST(says(verdict_of(probe), "EPERM"));
  BOOST_TEST(!probe.has_bugs());
}

// ---- the host's counters -----------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(counters_that_the_host_holds_are_told) {
  PerfCounters counters;
  counters.asked = 6;
  counters.free = 5;
  counters.nmi_watchdog = "1";
  BOOST_TEST(contains(describe(counters), "5 of 6 counters"));
  BOOST_TEST(contains(describe(counters), "kernel.nmi_watchdog=1"));
  counters.free = 6;
  counters.nmi_watchdog = "0";
  BOOST_TEST(contains(describe(counters), "All 6 counters"));
  BOOST_TEST(contains(describe(counters), "kernel.nmi_watchdog=0"));
}

BOOST_AUTO_TEST_CASE(a_user_who_may_not_ask_is_told_so) {
  PerfCounters counters;
  counters.asked = 6;
  counters.result = -EACCES;
  counters.nmi_watchdog = "?";
  counters.paranoid = "3";
  BOOST_TEST(contains(describe(counters), "was not asked"));
  BOOST_TEST(contains(describe(counters), "kernel.perf_event_paranoid=3"));
  BOOST_TEST(contains(describe(counters), "no NMI watchdog"));
}

BOOST_AUTO_TEST_CASE(this_machine_gives_an_answer) {
  const PerfCounters counters = ask_perf_counters(2);
  BOOST_TEST(counters.asked == 2U);
  BOOST_TEST((counters.result < 0 || counters.free <= 2));
  BOOST_TEST_MESSAGE(describe(counters));
}

// ---- the commands ------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(host_stub_tells_programs_in_json) {
  const auto run =
      run_process({kStub, "probe", "--json", "--kvm", "sim:linux-7.2,host-perfmonv2,mediated"});
  BOOST_TEST(run.status == host_stub::kExitGood);
  const auto json = nlohmann::json::parse(run.out);
  BOOST_TEST(json["enable_pmu"] == "Y");
  BOOST_TEST(json["vpmu"] == "live");
  BOOST_TEST(json["vpmu_without_irqchip"] == "off");
  BOOST_TEST(json["vpmu_after_cap"] == "off");
  BOOST_TEST(json["counters"] == 6);
  BOOST_TEST(json["pmu_msrs"].size() == 24U);
  BOOST_TEST(!json.contains("host_counters"));  // of this machine, not of the simulated one
  BOOST_TEST(json["plugin"].size() == kSettings.size());
  BOOST_TEST(json["plugin"][0]["vpmu"] == "live");
  BOOST_TEST(json["plugin"][0]["reset_cleared"] == true);
  BOOST_TEST(json["plugin"][1]["vpmu"] == "off");
  BOOST_TEST(json["plugin"][1]["lines"].size() > 0U);
}

BOOST_AUTO_TEST_CASE(host_stub_tells_people_what_cannot_be_fixed) {
  const auto run = run_process({kStub, "probe", "--kvm", "sim:linux-5.10"});
  BOOST_TEST(run.status == host_stub::kExitGood);
  for (const char* part : {"kexec", "kdump", "RDPMC", "no such parameter", "does not migrate"})
    BOOST_TEST(contains(run.out, part), part << " is not in: " << run.out);
}

BOOST_AUTO_TEST_CASE(only_the_settings_that_are_named_are_tried) {
  const auto run = run_process({kStub, "probe", "--json", "--kvm", "sim:linux-6.12", "--options",
                                "pmu-cap-disabled=on,strict=on"});
  BOOST_TEST(run.status == host_stub::kExitGood);
  const auto json = nlohmann::json::parse(run.out);
  BOOST_TEST(json["plugin"].size() == 1U);
  BOOST_TEST(json["plugin"][0]["options"] == "pmu-cap-disabled=on,strict=on");
}

BOOST_AUTO_TEST_CASE(what_is_wrong_is_named) {
  using host_stub::probe_command;
  BOOST_TEST(probe_command({"--kvm", "/nonexistent/kvm"}) == host_stub::kExitWrong);
  BOOST_TEST(probe_command({"--kvm", "sim:linux-9.9"}) == host_stub::kExitWrong);
  BOOST_TEST(probe_command({"--no-such"}) == host_stub::kExitUsage);
  BOOST_TEST(probe_command({"--help"}) == host_stub::kExitGood);
  const auto probed_with = [](const char* option, const char* value) {
    return run_process({kStub, "probe", "--kvm", "sim:linux-6.12", option, value});
  };
  check_process(probed_with("--options", "strict=maybe"), {{"strict", kSome}}, {}, 1);
  check_process(probed_with("--plugin", "/nonexistent.so"), {{"/nonexistent.so", kSome}}, {}, 1);
}

BOOST_AUTO_TEST_CASE(the_tool_names_what_is_wrong) {
  check_process(run_process({kTool, "probe", "--device", "/nonexistent/kvm"}),
                {{"/nonexistent/kvm", kSome}}, {}, 1);
  check_process(run_process({kTool, "probe", "--no-such"}), {{"svm-pmu probe --help", kSome}}, {},
                2);
  check_process(run_process({kStub, "run", "--no-such"}), {{"host_stub run --help", kSome}}, {}, 2);
  check_process(run_process({kTool, "prove"}), {{"prove", kSome}}, {}, 2);
  BOOST_TEST(run_process({kTool}).status == 2);
  BOOST_TEST(run_process({kTool, "--version"}).out.starts_with("svm-pmu "));
  const std::string listed = run_process({kTool, "list"}).out;
  BOOST_TEST(listed.find("\n  status ") != std::string::npos);
  BOOST_TEST(run_process({kTool, "--help"}).out.starts_with(listed));
}

// ---- this machine ------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(on_the_real_kvm_n_means_that_nothing_needs_to_be_done) {
  const auto kvm = open_kvm_device("/dev/kvm");
  if (!kvm) {
    BOOST_TEST_MESSAGE("SKIPPED: " << kvm.error());
    return;
  }
  const auto probe = probe_kvm(**kvm);
  BOOST_TEST_REQUIRE(probe.has_value());
  BOOST_TEST_MESSAGE(verdict_of(*probe).front());
  BOOST_TEST(!verdict_of(*probe).front().empty());
  if (probe->host.enable_pmu != "N") {
    BOOST_TEST_MESSAGE("SKIPPED: kvm.enable_pmu is " << probe->host.enable_pmu << ", not N");
    return;
  }
  BOOST_TEST((probe->with_irqchip.state == kOff));
  BOOST_TEST((probe->without_irqchip.state == kOff));
  BOOST_TEST(probe->pmu_capability == 0);
  BOOST_TEST(!probe->has_bugs());
  if (probe->amd()) BOOST_TEST(says(verdict_of(*probe), "kvm.enable_pmu is N"));
  BOOST_TEST(says(verdict_of(*probe), "Nothing needs to be done"));
}

BOOST_AUTO_TEST_CASE(the_tool_probes_the_real_kvm) {
  if (const auto kvm = open_kvm_device("/dev/kvm"); !kvm) {
    BOOST_TEST_MESSAGE("SKIPPED: " << kvm.error());
    return;
  }
  const auto run = run_process({kTool, "probe", "--json", "--plugin", kPlugin});
  BOOST_TEST(run.status == 0, run.err);
  const auto json = nlohmann::json::parse(run.out);
  BOOST_TEST(json["kvm"] == "/dev/kvm");
  BOOST_TEST(json["plugin"].size() == kSettings.size());
  BOOST_TEST(json.contains("host_counters") == (json["vpmu"] == "live"));
}
