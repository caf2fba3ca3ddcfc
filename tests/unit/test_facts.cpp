// SPDX-License-Identifier: MIT
//
// The simulated KVM against recordings of real ones: all rows, all fields.
#include <algorithm>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <ostream>
#include <set>
#include <string>

#include "kvm/facts.hpp"
#include "sim/sim_kvm.hpp"
#include "support/facts_compare.hpp"

namespace {

struct Replay {
  const char* recording;
  const char* spec;
  bool other_module = false;  ///< of a machine and a KVM module that the simulation is not
};
std::ostream& operator<<(std::ostream& out, const Replay& replay) {
  return out << replay.recording << " against " << replay.spec;
}

const Replay kReplays[] = {
    {"linux-5.10", "sim:linux-5.10"},
    {"linux-6.1", "sim:linux-6.1"},
    {"linux-6.1-enable_pmu_n", "sim:linux-6.1,enable_pmu=N"},
    {"linux-6.12", "sim:linux-6.12"},
    {"linux-6.12-enable_pmu_n", "sim:linux-6.12,enable_pmu=N"},
    {"linux-6.12-perfmonv2", "sim:linux-6.12,host-perfmonv2"},
    {"linux-6.18", "sim:linux-6.18"},
    {"linux-6.18-perfmonv2", "sim:linux-6.18,host-perfmonv2"},
    {"linux-6.18-kvm_pvm", "sim:linux-6.18,enable_pmu=N", true},
    {"linux-7.2", "sim:linux-7.2"},
    {"linux-7.2-perfmonv2", "sim:linux-7.2,host-perfmonv2"},
    {"linux-7.2-mediated-no-irqchip", "sim:linux-7.2,host-perfmonv2,mediated"},
};

std::vector<std::string> simulated(const char* spec, bool irqchip = false) {
  auto kvm = host_stub::open_sim(spec);
  BOOST_REQUIRE_MESSAGE(kvm, kvm.error());
  return host_stub::kvm_facts(**kvm, irqchip);
}

}  // namespace

BOOST_DATA_TEST_CASE(the_simulated_kvm_answers_as_recorded, boost::unit_test::data::make(kReplays),
                     replay) {
  const std::set<std::string> without =
      replay.other_module ? std::set<std::string>{"host", "supported_cpuid", "msr_index_list.n"}
                          : std::set<std::string>{};
  const auto result =
      facts::compare(facts::load(replay.recording), simulated(replay.spec), without);
  for (const std::string& difference : result.differences) BOOST_TEST_MESSAGE(difference);
  BOOST_TEST_MESSAGE(replay << ": " << result.rows << " rows, " << result.differences.size()
                            << " differences");
  BOOST_TEST(result.rows >= (replay.other_module ? 298U : 304U));
  BOOST_TEST(result.differences.size() == 0U);
}

BOOST_AUTO_TEST_CASE(a_fact_is_written_byte_for_byte_as_in_the_recordings) {
  // no counter was read before in this recording, so that not even "value" differs
  BOOST_TEST(facts::load("linux-6.12") == simulated("sim:linux-6.12"),
             boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(the_comparison_sees_a_single_changed_field) {
  const auto expected = facts::load("linux-6.12");
  auto actual = expected;
  const std::string field = "\"set\":1";
  const auto row = std::find_if(actual.begin(), actual.end(), [&](const std::string& line) {
    return line.find(field) != std::string::npos;
  });
  row->replace(row->find(field), field.size(), "\"set\":0");
  BOOST_TEST(facts::compare(expected, actual).differences.size() == 1U);
}

BOOST_AUTO_TEST_CASE(the_comparison_sees_a_missing_row) {
  const auto expected = facts::load("linux-6.12");
  auto actual = expected;
  actual.pop_back();
  BOOST_TEST(facts::compare(expected, actual).differences.size() == 1U);
}

BOOST_AUTO_TEST_CASE(kernels_that_differ_do_differ_in_the_comparison) {
  const auto result = facts::compare(facts::load("linux-6.1"), simulated("sim:linux-6.12"));
  BOOST_TEST(result.differences.size() > 20U);
}

BOOST_AUTO_TEST_CASE(a_mediated_vpmu_with_an_irqchip_differs_in_selector_bits_40_and_41_only) {
  const auto plain = simulated("sim:linux-7.2,host-perfmonv2", true);
  const auto mediated = simulated("sim:linux-7.2,host-perfmonv2,mediated", true);
  const auto result = facts::compare(plain, mediated);
  // two rows write those bits, in two ways to make the VM, with PerfCtrExtCore in two of three
  // CPUIDs
  BOOST_TEST(result.differences.size() == 8U);
  for (const std::string& difference : result.differences)
    BOOST_TEST(difference.find("c0010200") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_vcpu_that_cannot_be_made_shows_in_the_facts) {
  const auto lines = simulated("sim:linux-7.2,host-perfmonv2,mediated,host-perf-busy", true);
  const bool busy = std::any_of(lines.begin(), lines.end(), [](const std::string& line) {
    return line.find(R"("vcpu":-16,"set_cpuid":-9)") != std::string::npos;
  });
  BOOST_TEST(busy);
}

BOOST_AUTO_TEST_CASE(the_recordings_show_that_reprogramming_was_at_once_before_6_2) {
  // a selector is set and cleared before its counter is first read: has anything counted?
  const auto counted = [](const char* name) {
    size_t rows = 0;
    for (const std::string& line : facts::load(name)) {
      const auto row = nlohmann::json::parse(line);
      rows += facts::is_counter(row) && row.at("value") != "0";
    }
    return rows;
  };
  BOOST_TEST(counted("linux-5.10") > 0U);
  BOOST_TEST(counted("linux-6.1") > 0U);
  BOOST_TEST(counted("linux-6.12") == 0U);
  BOOST_TEST(counted("linux-7.2") == 0U);
}

namespace {

/// A column of the kernel table, and a recording that contradicts its opposite.
struct Pinned {
  const char* name;
  bool host_stub::Kernel::*column;
  const char* recording;
  const char* spec;
};
std::ostream& operator<<(std::ostream& out, const Pinned& pinned) {
  return out << pinned.name << " in " << pinned.spec;
}

using host_stub::Kernel;
const Pinned kPinned[] = {
    {"pmu_capability", &Kernel::pmu_capability, "linux-6.1", "sim:linux-6.1"},
    {"enable_pmu_parameter", &Kernel::enable_pmu_parameter, "linux-5.10", "sim:linux-5.10"},
    {"always_live", &Kernel::always_live, "linux-5.10", "sim:linux-5.10"},
    {"always_live", &Kernel::always_live, "linux-6.1", "sim:linux-6.1"},
    {"refused_by_cpuid_alone", &Kernel::refused_by_cpuid_alone, "linux-6.1", "sim:linux-6.1"},
    {"refused_by_cpuid_alone", &Kernel::refused_by_cpuid_alone, "linux-6.12", "sim:linux-6.12"},
    {"zero_waiver", &Kernel::zero_waiver, "linux-6.12", "sim:linux-6.12"},
    {"listed_while_off", &Kernel::listed_while_off, "linux-6.1-enable_pmu_n",
     "sim:linux-6.1,enable_pmu=N"},
    {"listed_while_off", &Kernel::listed_while_off, "linux-6.12-enable_pmu_n",
     "sim:linux-6.12,enable_pmu=N"},
    {"lists_fixed_overflow", &Kernel::lists_fixed_overflow, "linux-7.2", "sim:linux-7.2"},
    {"perfmonv2", &Kernel::perfmonv2, "linux-6.1", "sim:linux-6.1"},
    {"perfmonv2", &Kernel::perfmonv2, "linux-6.12", "sim:linux-6.12"},
    {"status_set", &Kernel::status_set, "linux-6.12-perfmonv2", "sim:linux-6.12,host-perfmonv2"},
    {"cpuid_capped", &Kernel::cpuid_capped, "linux-6.12", "sim:linux-6.12"},
    {"cpuid_capped", &Kernel::cpuid_capped, "linux-6.18", "sim:linux-6.18"},
    {"cpuid_capped", &Kernel::cpuid_capped, "linux-7.2", "sim:linux-7.2"},
    {"status_set", &Kernel::status_set, "linux-6.18-perfmonv2", "sim:linux-6.18,host-perfmonv2"},
    {"global_ctl_at_cpuid", &Kernel::global_ctl_at_cpuid, "linux-6.12", "sim:linux-6.12"},
    {"global_ctl_at_cpuid", &Kernel::global_ctl_at_cpuid, "linux-6.18-perfmonv2",
     "sim:linux-6.18,host-perfmonv2"},
    {"global_ctl_at_cpuid", &Kernel::global_ctl_at_cpuid, "linux-7.2-perfmonv2",
     "sim:linux-7.2,host-perfmonv2"},
};

}  // namespace

BOOST_DATA_TEST_CASE(a_column_of_the_kernel_table_turned_round_contradicts_a_recording,
                     boost::unit_test::data::make(kPinned), pinned) {
  auto profile = host_stub::parse_profile(pinned.spec);
  BOOST_REQUIRE(profile);
  host_stub::Kernel kernel = *profile->kernel;
  kernel.*pinned.column = !(kernel.*pinned.column);
  profile->kernel = &kernel;
  const auto kvm = host_stub::make_sim(*profile);
  const auto result =
      facts::compare(facts::load(pinned.recording), host_stub::kvm_facts(*kvm, false));
  BOOST_TEST_MESSAGE(pinned << ": " << result.differences.size() << " differences");
  BOOST_TEST(result.differences.size() > 0U);
}
