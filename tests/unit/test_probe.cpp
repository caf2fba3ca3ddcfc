// SPDX-License-Identifier: MIT
//
// The probe: its verdict on each simulated host, that it foretells what the plugin then does, and
// what it says of the real one.
#include <algorithm>
#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>

#include "cli/command.hpp"
#include "cli/probe.hpp"
#include "matrix/matrix_run.hpp"
#include "sim/backend.hpp"
#include "support/process.hpp"

using namespace host_stub;
namespace bdata = boost::unit_test::data;

namespace {

const std::string kBuild = TEST_BUILD_DIR;
const std::string kPlugin = kBuild + "/plugin/svm_pmu.so";

/// A host and what must be found.
struct Verdict {
  const char* spec;
  Vpmu vpmu, without_irqchip;
  bool has_bugs, core, perfmonv2;
  std::size_t pmu_msrs;
  OffOutcome by_auto, by_cap, by_filter;
  const char* says;
};
std::ostream& operator<<(std::ostream& out, const Verdict& v) { return out << v.spec; }

constexpr auto kCap = OffOutcome::off_by_cap, kAlready = OffOutcome::already_off,
               kFilter = OffOutcome::filtered, kNot = OffOutcome::not_possible;
constexpr auto kLive = Vpmu::live, kOff = Vpmu::off, kBusy = Vpmu::busy;

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
    {"sim:linux-6.12,vendor=intel", kOff, kOff, false, false, false, 0, kCap, kCap, kFilter, "no AMD host"},
    {"sim:linux-6.18,enable_pmu=N", kOff, kOff, false, false, false, 0, kAlready, kAlready, kFilter, "kvm.enable_pmu is N"},
    {"sim:linux-7.2", kLive, kLive, true, true, false, 20, kCap, kCap, kFilter, "Bug 2"},
    {"sim:linux-7.2,host-perfmonv2", kLive, kLive, true, true, true, 24, kCap, kCap, kFilter, "Bug 2"},
    {"sim:linux-7.2,host-perfmonv2,mediated", kLive, kOff, true, true, true, 24, kCap, kCap, kFilter, "without in-kernel irqchip"},
    {"sim:linux-7.2,host-perfmonv2,mediated,host-perf-busy", kBusy, kOff, true, true, true, 24, kCap, kCap, kFilter, "nmi_watchdog"},
    {"sim:linux-7.2,host-perfmonv2,mediated,enable_pmu=N", kOff, kOff, false, false, false, 0, kAlready, kAlready, kFilter, "kvm.enable_pmu is N"},
};
// clang-format on

/// Two enumerations of one thing: what the probe foretells, and what the matrix sees.
matrix::Decision decision_of(OffOutcome outcome) {
  constexpr matrix::Decision kDecisions[] = {
      matrix::Decision::nothing, matrix::Decision::off_by_cap, matrix::Decision::already_off,
      matrix::Decision::filtered, matrix::Decision::not_possible};
  return kDecisions[static_cast<std::size_t>(outcome)];
}

const PluginSetting& setting_of(const matrix::Case& row) {
  return *std::ranges::find_if(kPluginSettings, [&](const PluginSetting& setting) {
    return row.options().starts_with(std::string(setting.options) + ",");
  });
}

bool says(const std::vector<std::string>& sentences, std::string_view part) {
  return std::ranges::any_of(
      sentences, [&](const std::string& line) { return line.find(part) != std::string::npos; });
}

}  // namespace

BOOST_DATA_TEST_CASE(each_simulated_host_gets_its_verdict, bdata::make(kVerdicts), expected) {
  const auto kvm = open_kvm(expected.spec);
  BOOST_TEST_REQUIRE(kvm.has_value());
  const auto probe = probe_kvm(**kvm);
  BOOST_TEST_REQUIRE(probe.has_value());
  BOOST_TEST((probe->with_irqchip.vpmu == expected.vpmu));
  BOOST_TEST((probe->without_irqchip.vpmu == expected.without_irqchip));
  BOOST_TEST(probe->has_bugs() == expected.has_bugs);
  BOOST_TEST(probe->perfctr_core == expected.core);
  BOOST_TEST(probe->perfmonv2 == expected.perfmonv2);
  BOOST_TEST(probe->pmu_msrs.size() == expected.pmu_msrs);
  if (probe->offers_cap()) BOOST_TEST((probe->after_cap.vpmu == kOff));
  const OffOutcome outcomes[] = {OffOutcome::not_asked, expected.by_auto, expected.by_cap,
                                 expected.by_filter};
  for (std::size_t i = 0; i < kPluginSettings.size(); ++i)
    BOOST_TEST((probe->outcome(kPluginSettings[i]) == outcomes[i]), kPluginSettings[i].options);
  BOOST_TEST(says(verdict_of(*probe), expected.says));
  BOOST_TEST(says(verdict_of(*probe), "Nothing needs to be done") == !expected.has_bugs);
  BOOST_TEST(says(verdict_of(*probe), "Bug 1") == expected.has_bugs);
}

BOOST_AUTO_TEST_CASE(the_plugin_does_what_the_probe_foretells) {
  uint32_t compared = 0;
  for (const matrix::Case& row : matrix::all_cases()) {
    if (matrix::expectation_of(row).impossible != nullptr || !row.has_plugin()) continue;
    if (row.guest != matrix::GuestPmu::core || row.strict ||
        row.vendor == matrix::VendorPair::amd_host_intel_guest)
      continue;
    const auto kvm = matrix::open_host(row);
    const auto probe = probe_kvm(**kvm);
    const auto said = matrix::decision_said(matrix::observe(row, kPlugin));
    BOOST_TEST((said == decision_of(probe->outcome(setting_of(row)))), row.name());
    ++compared;
  }
  BOOST_TEST_MESSAGE("compared on " << compared << " hosts and settings");
  BOOST_TEST(compared > 0U);
}

BOOST_AUTO_TEST_CASE(a_capability_that_does_nothing_is_noticed) {
  Probe probe;
  probe.vendor = "AuthenticAMD";
  probe.pmu_capability = 1;
  probe.with_irqchip.vpmu = probe.without_irqchip.vpmu = probe.after_cap.vpmu = Vpmu::live;
  BOOST_TEST(says(verdict_of(probe), "does not turn the vPMU off"));
}

BOOST_AUTO_TEST_CASE(a_host_without_a_pmu_is_not_taken_for_one_with_the_parameter_off) {
  Probe probe;
  probe.vendor = "AuthenticAMD";
  probe.host.enable_pmu = "Y";
  probe.with_irqchip.vpmu = probe.without_irqchip.vpmu = Vpmu::off;
  BOOST_TEST(says(verdict_of(probe), "no PMU to give"));
  BOOST_TEST(!says(verdict_of(probe), "is N"));
}

BOOST_AUTO_TEST_CASE(a_kvm_that_makes_no_vcpu_gets_no_verdict) {
  Probe probe;
  probe.vendor = "AuthenticAMD";
  probe.with_irqchip = probe.without_irqchip = {Vpmu::not_created, -EPERM};
  BOOST_TEST(says(verdict_of(probe), "nothing can be said"));
  BOOST_TEST(says(verdict_of(probe), "EPERM"));
  BOOST_TEST(!probe.has_bugs());
}

// ---- the command -------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(the_command_tells_programs_in_json) {
  const auto run = run_process({kBuild + "/host_stub/host_stub", "probe", "--json", "--kvm",
                                "sim:linux-7.2,host-perfmonv2,mediated"});
  BOOST_TEST(run.status == kExitGood);
  const auto json = nlohmann::json::parse(run.out);
  BOOST_TEST(json["enable_pmu"] == "Y");
  BOOST_TEST(json["vpmu"] == "live");
  BOOST_TEST(json["vpmu_without_irqchip"] == "off");
  BOOST_TEST(json["vpmu_after_cap"] == "off");
  BOOST_TEST(json["counters"] == 6);
  BOOST_TEST(json["pmu_msrs"].size() == 24U);
  BOOST_TEST(json["plugin"].size() == kPluginSettings.size());
  BOOST_TEST(json["plugin"][1]["outcome"] == "off_by_cap");
}

BOOST_AUTO_TEST_CASE(the_command_tells_people_what_cannot_be_fixed) {
  const auto run =
      run_process({kBuild + "/host_stub/host_stub", "probe", "--kvm", "sim:linux-5.10"});
  BOOST_TEST(run.status == kExitGood);
  for (const char* part : {"kexec", "kdump", "RDPMC", "no such parameter", "strict=on"})
    BOOST_TEST(run.out.find(part) != std::string::npos, part << " is not in: " << run.out);
}

BOOST_AUTO_TEST_CASE(the_command_names_what_is_wrong) {
  BOOST_TEST(probe_command({"--kvm", "/nonexistent/kvm"}) == kExitWrong);
  BOOST_TEST(probe_command({"--kvm", "sim:linux-9.9"}) == kExitWrong);
  BOOST_TEST(probe_command({"--no-such"}) == kExitUsage);
  BOOST_TEST(probe_command({"--help"}) == kExitGood);
}

// ---- this machine ------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(on_the_real_kvm_n_means_that_nothing_needs_to_be_done) {
  const auto kvm = open_kvm("/dev/kvm");
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
  BOOST_TEST((probe->with_irqchip.vpmu == Vpmu::off));
  BOOST_TEST((probe->without_irqchip.vpmu == Vpmu::off));
  BOOST_TEST(probe->pmu_capability == 0);
  BOOST_TEST(!probe->has_bugs());
  if (probe->amd()) BOOST_TEST(says(verdict_of(*probe), "kvm.enable_pmu is N"));
  BOOST_TEST(says(verdict_of(*probe), "Nothing needs to be done"));
  BOOST_TEST((probe->outcome(kPluginSettings[1]) == OffOutcome::already_off));
}
