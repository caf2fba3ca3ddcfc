// SPDX-License-Identifier: MIT
//
// The test matrix, all of it, a kernel at a time; and that its judge would see a failure.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <string>

#include "host_kit/plugin_library.hpp"
#include "matrix/matrix_command.hpp"
#include "matrix/matrix_run.hpp"
#include "sim/profile.hpp"

using namespace host_stub::matrix;

namespace {

const std::string kPlugin = std::string(TEST_BUILD_DIR) + "/plugin/svm_pmu.so";

/// Keeps the plugin loaded, so that a case's own dlopen is cheap.
struct LoadedPlugin {
  LoadedPlugin() { BOOST_TEST_REQUIRE(library.has_value()); }
  tl::expected<host_kit::PluginLibrary, std::string> library =
      host_kit::PluginLibrary::open(kPlugin);
};

void run_kernel(std::string_view kernel, bool batch = false) {
  uint32_t rows = 0, met = 0, impossible = 0;
  for (Case row : all_cases()) {
    if (row.kernel != kernel) continue;
    row.batch = batch;
    ++rows;
    const Expectation expected = expectation_of(row);
    if (expected.impossible != nullptr) {
      ++impossible;
      continue;
    }
    const auto wrong = differences(expected, row, observe(row, kPlugin));
    met += wrong.empty() ? 1 : 0;
    BOOST_TEST(wrong.empty(), row.name() << ": " << fmt::format("{}", fmt::join(wrong, "; ")));
  }
  BOOST_TEST_MESSAGE(fmt::format("{}: {} rows, {} met, {} impossible, {} failed", kernel, rows, met,
                                 impossible, rows - met - impossible));
  BOOST_TEST(met > 0U);
}

/// A live AMD guest on Linux 6.12 with the plugin's reset.
Case live_case() {
  Case row;
  row.kernel = "linux-6.12";
  return row;
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(all_rows_are_met, LoadedPlugin)

BOOST_AUTO_TEST_CASE(on_linux_5_4) { run_kernel("linux-5.4"); }
BOOST_AUTO_TEST_CASE(on_linux_5_10) { run_kernel("linux-5.10"); }
BOOST_AUTO_TEST_CASE(on_linux_5_15) { run_kernel("linux-5.15"); }
BOOST_AUTO_TEST_CASE(on_linux_6_1) { run_kernel("linux-6.1"); }
BOOST_AUTO_TEST_CASE(on_linux_6_6_as_released) { run_kernel("linux-6.6"); }
BOOST_AUTO_TEST_CASE(on_the_stable_branch_of_linux_6_6) { run_kernel("linux-6.6.y"); }
BOOST_AUTO_TEST_CASE(on_linux_6_12) { run_kernel("linux-6.12"); }
BOOST_AUTO_TEST_CASE(on_linux_6_18) { run_kernel("linux-6.18"); }
BOOST_AUTO_TEST_CASE(on_linux_7_2) { run_kernel("linux-7.2"); }

// Through the host's batch: an old kernel, and the one with the most variants.
BOOST_AUTO_TEST_CASE(on_linux_5_10_with_a_lent_batch) { run_kernel("linux-5.10", true); }
BOOST_AUTO_TEST_CASE(on_linux_7_2_with_a_lent_batch) { run_kernel("linux-7.2", true); }

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_CASE(no_kernel_of_the_simulation_is_left_out) {
  for (const host_stub::Kernel& kernel : host_stub::kernels()) {
    const auto cases = all_cases();
    BOOST_TEST(std::ranges::count(cases, kernel.name, &Case::kernel) > 0, kernel.name);
  }
}

BOOST_AUTO_TEST_CASE(what_is_called_impossible_the_simulation_refuses_too_and_nothing_else) {
  for (const Case& row : all_cases()) {
    const bool possible = expectation_of(row).impossible == nullptr;
    BOOST_TEST(host_stub::parse_profile(row.kvm_spec()).has_value() == possible, row.name());
  }
}

// ---- the judge ---------------------------------------------------------------------------------

BOOST_AUTO_TEST_SUITE(judge)

BOOST_AUTO_TEST_CASE(a_guest_without_the_plugin_is_not_taken_for_one_with_it) {
  Case without = live_case();
  without.off = PmuOff::no_plugin;
  const Observation seen = observe(without, kPlugin);
  BOOST_TEST(differences(expectation_of(without), without, seen).empty());
  const std::string wrong = fmt::format(
      "{}", fmt::join(differences(expectation_of(live_case()), live_case(), seen), "\n"));
  for (const char* part :
       {"KVM_SET_MSRS in a reset of vCPU 1: expected 1 to 1, saw 0",
        "not clean after the reset: c0010200", "says '[Firmware Bug]' after the reset"})
    BOOST_TEST(wrong.find(part) != std::string::npos, part << " is not in: " << wrong);
}

BOOST_AUTO_TEST_CASE(a_filter_with_a_hole_is_seen) {
  Case row = live_case();
  row.off = PmuOff::msr_filter;
  Observation seen = observe(row, kPlugin);
  BOOST_TEST(differences(expectation_of(row), row, seen).empty());
  seen.guest_reaches.push_back(0xc0000301);
  BOOST_TEST(!differences(expectation_of(row), row, seen).empty());
}

BOOST_AUTO_TEST_CASE(each_thing_that_is_seen_counts) {
  const Case row = live_case();
  const Expectation expected = expectation_of(row);
  const Observation good = observe(row, kPlugin);
  BOOST_TEST_REQUIRE(differences(expected, row, good).empty());
  struct Change {
    const char* what;
    void (*make)(Observation&);
  };
  const Change changes[] = {
      {"an ioctl in vm_created", [](Observation& o) { ++o.vm_created["KVM_CHECK_EXTENSION"]; }},
      {"the VM was not made", [](Observation& o) { o.start_result = -EIO; }},
      {"a hook failed", [](Observation& o) { o.hook_result = -EIO; }},
      {"two writes", [](Observation& o) { ++o.reset[1]["KVM_SET_MSRS"]; }},
      {"a read", [](Observation& o) { ++o.reset[1]["KVM_GET_MSRS"]; }},
      {"written twice", [](Observation& o) { o.written_twice.push_back(0xc0010000); }},
      {"too few counters live", [](Observation& o) { --o.before[0].dirty_counters; }},
      {"a stale counter", [](Observation& o) { o.after[1].dirty.push_back(0xc0010201); }},
      {"GLOBAL_CTL appears", [](Observation& o) { o.after[0].global_ctl = 0x3f; }},
      {"GLOBAL_STATUS stays", [](Observation& o) { o.after[0].global_status = 1; }},
      {"no PMU at boot", [](Observation& o) { o.boot.clear(); }},
      {"no PMU after the reset", [](Observation& o) { o.boot_after.clear(); }},
      {"an NMI", [](Observation& o) { o.nmis_after = 1; }},
      {"a warning",
       [](Observation& o) {
         o.log.push_back({200, "anything"});
       }},
      {"a refused register",
       [](Observation& o) {
         o.log.push_back({300, "KVM does not have"});
       }},
      {"another outcome",
       [](Observation& o) {
         o.log.push_back({300, "already off"});
       }},
  };
  for (const Change& change : changes) {
    Observation changed = good;
    change.make(changed);
    BOOST_TEST(!differences(expected, row, changed).empty(), change.what);
  }
}

BOOST_AUTO_TEST_SUITE_END()

// ---- the command -------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(the_command_needs_a_plugin_and_cases) {
  BOOST_TEST(host_stub::matrix_command({}) == host_stub::kExitUsage);
  BOOST_TEST(host_stub::matrix_command({"--no-such"}) == host_stub::kExitUsage);
  BOOST_TEST(host_stub::matrix_command({"--plugin", "/nonexistent.so"}) == host_stub::kExitWrong);
  BOOST_TEST(host_stub::matrix_command({"--plugin", kPlugin, "--filter", "no such case"}) ==
             host_stub::kExitWrong);
  BOOST_TEST(host_stub::matrix_command({"--plugin", kPlugin, "--filter", "linux-6.1 "}) ==
             host_stub::kExitGood);
  BOOST_TEST(host_stub::matrix_command({"--json", "--plugin", kPlugin, "--filter",
                                        "linux-5.10 "}) == host_stub::kExitGood);
}
