// SPDX-License-Identifier: MIT
//
// The validator against plugins that break rules on purpose: each row is a fault and the rules that
// it must fail, all of them and no other. What a fault brings with it is in its row: a plugin whose
// second reset fails also fails beside other VMs.
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "sanitizers.hpp"
#include "support/process.hpp"
#include "support/said.hpp"

namespace {

using Rules = std::set<unsigned>;

const std::string kBuild = TEST_BUILD_DIR;
const std::string kHostStub = kBuild + "/host_stub/host_stub";

struct Row {
  const char* file;   ///< of this directory's plugins
  const char* fault;  ///< what BAD says to it
  Rules failed;
};

/// The rules that cannot be checked in a program built with a sanitizer, wholly or in part.
const Rules kNotWithSanitizers{1, 2, 13, 40, 41, 42};

ProcessResult validate(std::vector<std::string> arguments, const std::string& fault = "") {
  arguments.insert(arguments.begin(), {kHostStub, "validate"});
  return run_process(arguments, {"BAD=" + fault});
}

std::string text_of(const Rules& rules) {
  std::string text;
  for (const unsigned rule : rules) text += " " + std::to_string(rule);
  return text;
}

/// The numbers of a report's rules with that verdict.
Rules with_verdict(const nlohmann::json& report, const std::string& verdict) {
  Rules rules;
  for (const auto& row : report["rules"])
    if (row["verdict"] == verdict)
      rules.insert(static_cast<unsigned>(std::stoul(row["rule"].get<std::string>().substr(4))));
  return rules;
}

nlohmann::json report_of(const std::string& file, const std::string& fault) {
  const ProcessResult result = validate(
      {"--plugin", kBuild + "/tests/check_plugin/" + file + ".so", "--json", "--timeout", "30"},
      fault);
  nlohmann::json report = nlohmann::json::parse(result.out, nullptr, false);
  BOOST_REQUIRE_MESSAGE(!report.is_discarded(), result.status << " " << result.out << result.err);
  const bool good = report["failed"] == 0;
  BOOST_TEST(result.status == (good ? 0 : 1));
  return report;
}

void check(std::span<const Row> rows) {
  for (const Row& row : rows) {
    BOOST_TEST_CONTEXT(row.file << " " << row.fault) {
      Rules wanted = row.failed;
      if (host_stub::kSanitized) {
        std::erase_if(wanted, [](unsigned rule) { return kNotWithSanitizers.contains(rule); });
        if (wanted.empty()) continue;
      }
      const nlohmann::json report = report_of(row.file, row.fault);
      Rules failed = with_verdict(report, "fail");
      if (host_stub::kSanitized)
        std::erase_if(failed, [](unsigned rule) { return kNotWithSanitizers.contains(rule); });
      BOOST_TEST(text_of(failed) == text_of(wanted));
      for (const auto& rule : report["rules"])
        if (rule["verdict"] == "fail") BOOST_TEST(!rule["seen"].get<std::string>().empty());
    }
  }
}

constexpr const char* kByName = "bad_by_name";

const Row kFileRows[] = {
    {"bad_export", "", {1}},
    {kByName, "entry_gives_null", {2}},
    {kByName, "entry_allocates", {2}},
    {kByName, "entry_prints", {2}},
    {kByName, "entry_gives_copies", {2}},
    {kByName, "capital_name", {3}},
    {kByName, "flags_in_the_descriptor", {3}},
    {kByName, "two_lines_of_description", {3}},
    {kByName, "help_without_newline", {3}},
    {kByName, "small_descriptor", {3}},
    {kByName, "edits_its_descriptor", {3}},
    {"bad_soname", "", {6}},
    {"bad_runpath", "", {6}},
    {"bad_stack", "", {6}},
    {kByName, "extension_for_all", {26}},
    {"bad_atfork", "", {39}},
    {"bad_nodelete", "", {65}},
    {"bad_thread_local", "", {39, 41, 65}},
    {"bad_thread_local_inside", "", {39, 41, 65}},
    {kByName, "logs_when_unloaded", {18, 65}},
};

const Row kInstanceRows[] = {
    {kByName, "reads_behind_the_table", {8}},
    {kByName, "takes_a_small_table", {8}},
    {kByName, "takes_any_major", {8}},
    {kByName, "does_without_log", {8}},
    {kByName, "fails_without_text", {8, 14, 15}},
    {kByName, "needs_get_cpuid", {9, 67}},
    {kByName, "wants_its_own_size", {9, 67}},
    {kByName, "registers_twice", {10}},
    {kByName, "registers_later", {10}},
    {kByName, "never_registers", {10, 14, 43}},
    {kByName, "leaks_when_it_fails", {13}},
    {kByName, "context_of_a_failure", {13}},
    {kByName, "failure_is_for_ever", {13}},
    {kByName, "another_code", {14}},
    {kByName, "takes_any_option", {15}},
    {kByName, "null_is_not_none", {15}},
    {kByName, "last_instance_wins", {17}},
    {kByName, "one_instance", {17}},
    {kByName, "ioctl_in_destroy", {18}},
    {kByName, "needs_an_error_buffer", {44}},
    {kByName, "cuts_characters", {45}},
    {kByName, "overruns_the_text", {45}},
    {kByName, "text_without_end", {45}},
    {kByName, "text_on_success", {45}},
    {kByName, "aborts", {46}},
    {"bad_cxx", "throws_in_create", {15, 46}},
    {"bad_cxx", "throws_at_reset", {41, 42, 46}},
    {kByName, "small_hooks", {10, 66}},
    {kByName, "reserved_in_hooks", {66}},
};

const Row kHookRows[] = {
    {kByName, "keeps_a_descriptor", {20}},
    {kByName, "old_vcpu_handle", {20, 25, 29, 33, 37}},
    {kByName, "interrupted_is_failed", {22}},
    {kByName, "newline", {23}},
    {kByName, "overlong_2", {23}},
    {kByName, "overlong_3", {23}},
    {kByName, "overlong_4", {23}},
    {kByName, "surrogate", {23}},
    {kByName, "beyond_unicode", {23}},
    {kByName, "cut_character", {23}},
    {kByName, "wrong_length", {23}},
    {kByName, "needs_the_cpuid", {25}},
    {kByName, "last_vm_wins", {20, 29}},
    {kByName, "context_of_a_refused_vm", {30}},
    {kByName, "second_reset_fails", {29, 33, 37}},
    {kByName, "counts_in_a_register", {33, 37, 53}},
    {kByName, "list_changes", {36}},
    {kByName, "tied_to_a_thread", {37}},
    {kByName, "one_at_a_time", {37}},
    {kByName, "starts_a_thread", {39}},
    {kByName, "forks", {39}},
    {kByName, "installs_a_handler", {39}},
    {kByName, "blocks_a_signal", {39, 41}},
    {kByName, "opens_a_file", {40}},
    {kByName, "opens_a_socket", {40}},
    {kByName, "allocates_at_reset", {41, 42}},
    {kByName, "locks_at_reset", {41}},
    {kByName, "system_call_at_reset", {41}},
    {kByName, "room_for_8_vcpus", {42}},
    {kByName, "positive_result", {43}},
    {kByName, "positive_from_vm_created", {30, 43}},
    {kByName, "result_is_no_errno", {43}},
    {kByName, "any_count_is_success", {43}},
    {kByName, "positive_add_is_success", {43}},
    {kByName, "empty_range", {62}},
    {kByName, "denies_later", {62}},
    {kByName, "hides_nothing", {76}},
    {kByName, "hides_in_no_register", {76}},
    {kByName, "hides_later", {76}},
    {kByName, "closes_everything", {63}},
    {kByName, "keeps_the_vm_struct", {63}},
    {kByName, "refuses_larger_structs", {67}},
};

const Row kMsrRows[] = {
    {kByName, "adds_nothing", {47}},
    {kByName, "unknown_flag", {47}},
    {kByName, "keeps_the_sink", {29, 36, 48}},
    {kByName, "flags_in_a_batch", {49}},
    {kByName, "short_count_is_success", {51}},
    {kByName, "full_batch_is_success", {53}},
    {kByName, "failed_write_is_success", {53}},
    {kByName, "reserved_in_request", {54}},
    {kByName, "selector_first", {55}},
    {kByName, "never_stopped", {55}},
    {kByName, "saved_twice", {56}},
    {kByName, "refused_constant", {57}},
    {kByName, "required_is_cut", {58}},
    {kByName, "required_alone", {58}},
};

/// Ends of the process, not of a function: the first life finds them, and nothing else is run.
const Row kAccidentRows[] = {
    {kByName, "crashes", {10}},         {kByName, "exits_in_create", {10}},
    {kByName, "exits_in_a_hook", {10}}, {kByName, "stops_itself", {10}},
    {kByName, "kills_its_group", {10}},
};

std::vector<Row> all_rows() {
  std::vector<Row> all;
  for (const std::span<const Row> rows :
       {std::span<const Row>(kFileRows), {kInstanceRows}, {kHookRows}, {kMsrRows}})
    all.insert(all.end(), rows.begin(), rows.end());
  return all;
}

}  // namespace

BOOST_AUTO_TEST_CASE(plugins_without_a_fault_pass_every_rule) {
  for (const char* file : {kByName, "bad_cxx"}) {
    BOOST_TEST_CONTEXT(file) {
      const nlohmann::json report = report_of(file, "");
      BOOST_TEST(text_of(with_verdict(report, "fail")) == "");
      // and nothing about the larger one was left unchecked
      if (file == kByName && !host_stub::kSanitized)
        BOOST_TEST(text_of(with_verdict(report, "not applicable")) == "");
    }
  }
}

BOOST_AUTO_TEST_CASE(faults_of_file_and_descriptor_fail_their_rules) { check(kFileRows); }
BOOST_AUTO_TEST_CASE(faults_of_create_and_destroy_fail_their_rules) { check(kInstanceRows); }
BOOST_AUTO_TEST_CASE(faults_of_hooks_fail_their_rules) { check(kHookRows); }
BOOST_AUTO_TEST_CASE(faults_of_batches_and_lists_fail_their_rules) { check(kMsrRows); }

BOOST_AUTO_TEST_CASE(whatever_a_plugin_does_the_validator_ends_with_a_report) {
  check(kAccidentRows);
  for (const char* fault : {"hangs_in_create", "spins_at_reset"}) {
    const ProcessResult result =
        validate({"--plugin", kBuild + "/tests/check_plugin/bad_by_name.so", "--timeout", "1",
                  "--rule", "VMM-10", "--rule", "41"},
                 fault);
    BOOST_TEST(result.status == 1);
    BOOST_TEST(contains(result.out, "did not come back within 1000 ms in "));
    BOOST_TEST(contains(result.out, "VMM-41  n/a "));
  }
}

BOOST_AUTO_TEST_CASE(every_rule_of_the_list_has_a_plugin_that_breaks_it) {
  const ProcessResult list = validate({"--list"});
  BOOST_TEST(list.status == 0);
  Rules listed, broken;
  std::istringstream lines(list.out);
  for (std::string line; std::getline(lines, line);)
    listed.insert(static_cast<unsigned>(std::stoul(line.substr(4))));
  std::map<unsigned, std::string> names;
  for (const Row& row : all_rows())
    for (const unsigned rule : row.failed) {
      broken.insert(rule);
      names[rule] += std::string(" ") + (*row.fault != '\0' ? row.fault : row.file);
    }
  BOOST_TEST(text_of(listed) == text_of(broken));
  for (const auto& [rule, faults] : names) BOOST_TEST_MESSAGE("VMM-" << rule << ":" << faults);
}

BOOST_AUTO_TEST_CASE(a_wrong_command_line_is_refused_with_what_is_allowed) {
  const std::string plugin = kBuild + "/plugin/svm_pmu.so";
  const struct {
    std::vector<std::string> arguments;
    const char* said;
  } rows[] = {
      {{}, "needs a plugin: host_stub validate FILE"},
      {{"a.so", "b.so"}, "positional options"},
      {{"--plugin", "/nowhere.so"}, "--plugin '/nowhere.so': no such file"},
      {{"--plugin", "/"}, "--plugin '/': no such file"},
      {{"--plugin", plugin, "--rule", "VMM-4"}, "--rule 'VMM-4': no rule that is checked"},
      {{"--plugin", plugin, "--rule", "x"}, "--rule 'x': no rule that is checked"},
      {{"--plugin", plugin, "--timeout", "0"}, "--timeout 0: allowed are 1 to 3600"},
      {{"--plugin", plugin, "--kvm", "sim:linux-1.0"}, "--kvm 'sim:linux-1.0':"},
      {{"--plugins", plugin}, "unrecognised option"},
  };
  for (const auto& row : rows) {
    const ProcessResult result = validate(row.arguments);
    BOOST_TEST(result.status == 2);
    BOOST_TEST(result.out == "");
    BOOST_TEST(contains(result.err, row.said), result.err);
  }
}

BOOST_AUTO_TEST_CASE(a_file_that_is_no_plugin_fails_with_words) {
  const ProcessResult script = validate({"--plugin", kBuild + "/CMakeCache.txt"});
  BOOST_TEST(script.status == 1);
  BOOST_TEST(contains(script.out, "VMM-1   FAIL"));
  BOOST_TEST(contains(script.out, "the file is no ELF file"));
  const ProcessResult library = validate({"--plugin", kBuild + "/tests/abi/libnot_a_plugin.so"});
  BOOST_TEST(library.status == 1);
  BOOST_TEST(contains(library.out, "does not export vmm_plugin_v1"));
}

BOOST_AUTO_TEST_CASE(one_rule_alone_can_be_asked_for) {
  const ProcessResult result =
      validate({"--plugin", kBuild + "/plugin/svm_pmu.so", "--rule", "VMM-36", "--json"});
  BOOST_TEST(result.status == 0);
  const nlohmann::json report = nlohmann::json::parse(result.out);
  BOOST_TEST(report["rules"].size() == 1u);
  BOOST_TEST(report["rules"][0]["verdict"] == "pass");
}
