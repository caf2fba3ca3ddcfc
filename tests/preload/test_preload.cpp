// SPDX-License-Identifier: MIT
//
// The preload library as a whole, under a small VMM of our own. Built twice: on the real KVM, where
// QEMU comes too, and with SIM_DEV_KVM naming the library that plays /dev/kvm (sim_dev_kvm.cpp), on
// any machine.
//
// Under a sanitizer nothing is preloaded: there the same entry points are linked into the VMM.
#include <unistd.h>

#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <ostream>
#include <sstream>
#include <string>
#include <vector>

#include "host_preload/program_check.hpp"
#include "support/not_sanitized.hpp"
#include "support/process.hpp"
#include "support/said.hpp"
#include "support/temporary_folder.hpp"

namespace {

using Strings = std::vector<std::string>;
using Variables = std::map<std::string, std::string>;

Strings words(const std::string& text) {
  std::istringstream stream(text);
  return {std::istream_iterator<std::string>(stream), std::istream_iterator<std::string>()};
}

#ifdef SIM_DEV_KVM
constexpr bool kSimulated = true;
#else
constexpr bool kSimulated = false;
#define SIM_DEV_KVM ""
#endif

// before a case that shows something on one of the two only
#define SIMULATED_ONLY BOOST_TEST_DECORATOR(*boost::unit_test::enable_if<kSimulated>())
#define REAL_ONLY \
  BOOST_TEST_DECORATOR(*boost::unit_test::enable_if<!kSimulated && !host_stub::kSanitized>())

bool skipped_without_kvm() {
  if (kSimulated) return false;
  const auto kvm = host_preload::check_kvm();
  if (!kvm) std::printf("SKIPPED: %s\n", kvm.error().c_str());
  return !kvm.has_value();
}

Variables preloaded(const Variables& variables) {
  Variables all = variables;
  if (!LINKED && all.count("LD_PRELOAD") == 0) all["LD_PRELOAD"] = PRELOAD_LIBRARY;
  return all;
}

ProcessResult run(const Strings& command, const Variables& variables) {
  Variables all = variables;
  if (kSimulated) {
    all.emplace("SIM_DEV_KVM", "sim:linux-6.12");
    std::string& libraries = all["LD_PRELOAD"];  // beneath all others
    if (!LINKED) libraries += (libraries.empty() ? "" : ":") + std::string(SIM_DEV_KVM);
  }
  Strings environment;
  for (const auto& [name, value] : all) environment.push_back(name + "=" + value);
  return run_process(command, environment);
}

/// The VMM plays `script` with the test plugin and its options; the log goes to standard error.
ProcessResult play(const std::string& script, const std::string& options = "",
                   const Variables& more = {}) {
  Variables variables{{"VMM_PRELOAD_LOG", "stderr"},
                      {"VMM_PLUGINS", std::string(TEST_PLUGIN) + "," + options}};
  for (const auto& [name, value] : more) variables[name] = value;
  Strings command = words(script);
  command.insert(command.begin(), TINY_VMM);
  return run(command, preloaded(variables));
}

const std::string kReset = " sregs:0:reset regs:0:reset mp:0 ";
const std::string kReadMsr = " sregs:0:guest regs:0:guest run:0 ";
const std::string kReadCore = " sregs:0:core regs:0:core run:0 ";
const std::string kStart = " vm vcpu:0 " + kReset + " run:0 ";
const std::string kResetAndRun = kReset + " run:0 ";  // a reset shows when the vCPU runs again

/// A case that is skipped where there is no KVM.
#define KVM_TEST_CASE(name)                      \
  static void name##_on_kvm();                   \
  BOOST_AUTO_TEST_CASE(name) {                   \
    if (!skipped_without_kvm()) name##_on_kvm(); \
  }                                              \
  void name##_on_kvm()

}  // namespace

// ---- hooks and orders --------------------------------------------------------------------------

KVM_TEST_CASE(one_reset_calls_the_hook_once) {
  check_process(play(kStart + kResetAndRun),
                {{"vcpu_reset", 1},
                 {"info: vcpu_reset vm=4 vcpu=0 plugin=test_plugin result=0 rule=strong\n", kSome},
                 {"info: vm_created vm=4 plugin=test_plugin result=0\n", kSome}});
}

namespace {

struct Order {
  const char* name;
  std::string script;
  int resets;
  int resets_broad;
};
std::ostream& operator<<(std::ostream& out, const Order& order) { return out << order.name; }

const std::vector<Order> kOrders{
    {"creation", " vm vcpu:0 " + kReset + kReset, 0, 0},
    {"reset before the first run", " vm vcpu:0 " + kReset + "run:0", 0, 0},
    {"two resets", kStart + kReset + "run:0" + kResetAndRun, 2, 2},
    {"a reset that is not run", kStart + kReset, 0, 0},
    {"SREGS2", kStart + "sregs2:0:reset regs:0:reset mp:0 run:0", 1, 1},
    {"StratoVirt", kStart + "mp:0 sregs:0:low regs:0:reset msrs:0:tsc run:0", 1, 1},
    {"StratoVirt, direct kernel boot", kStart + "mp:0 sregs:0:boot regs:0:boot msrs:0:tsc run:0", 0,
     1},
    {"openvmm", kStart + "regs:0:reset sregs:0:reset mp:0 msrs:0:tsc run:0", 1, 1},
    {"kvmtool", " vm vcpu:0 cpuid:0 sregs:0:boot regs:0:boot run:0", 1, 1},
    {"CPUID that is not followed by a run", " vm vcpu:0 cpuid:0", 1, 1},
    {"VirtualBox", kStart + "mp:0 run:0", 0, 0},
    {"run-time puts", kStart + "sregs:0:boot regs:0:boot run:0 sregs:0:boot regs:0:boot run:0", 0,
     0},
    {"loadvm", kStart + kReset + "sregs:0:boot regs:0:boot mp:0 run:0", 0, 1},
    {"reset by a VMM that gives PMU registers values", kStart + "msrs:0:value" + kResetAndRun, 0,
     0},
    {"reset by a VMM that zeroes PMU registers itself", kStart + "msrs:0:zero" + kResetAndRun, 1,
     1},
    {"restore that writes PMU registers",
     kStart + "msrs:0:zero sregs:0:boot regs:0:boot mp:0 run:0", 0, 0},
};

}  // namespace

BOOST_DATA_TEST_CASE(orders_of_real_vmms, boost::unit_test::data::make(kOrders), order) {
  if (skipped_without_kvm()) return;
  const ProcessResult strong = play(order.script);
  if (strong.status == 77) {
    std::printf("SKIPPED: %s", strong.out.substr(strong.out.rfind("no KVM")).c_str());
    return;
  }
  BOOST_TEST(strong.status == 0);
  BOOST_TEST(count(strong.err, "vcpu_reset vm=") == order.resets);
  BOOST_TEST(count(strong.err, "vm_created") == 1);
  const ProcessResult broad = play(order.script, "", {{"VMM_PRELOAD_RESET_RULE", "broad"}});
  BOOST_TEST(broad.status == 0);
  BOOST_TEST(count(broad.err, "vcpu_reset vm=") == order.resets_broad);
}

KVM_TEST_CASE(a_second_vm_of_the_process) {
  check_process(
      play(kStart + "closevcpu:0 closevm" + kStart + kResetAndRun + " closevm closevcpu:0"),
      {{"vm_created", 2}, {"vcpu_reset", 1}, {"vm_destroyed vm=", 2}, {"test_plugin: goodbye", 2}});
}

KVM_TEST_CASE(a_vm_begins_as_if_it_were_the_first) {
  const std::string end = " closevcpu:0 closevm ";
  // it has not run, and has no CPUID, although the one before did and had
  const ProcessResult outcome = play(
      " vm vcpu:0 cpuid:0 run:0" + kResetAndRun + end + " vm vcpu:0 " + kResetAndRun + kResetAndRun,
      "cpuid");
  BOOST_TEST(outcome.status == 0);
  BOOST_TEST(count(outcome.err, "vcpu_reset vm=") == 3);  // at the first one's CPUID, and two
  BOOST_TEST(count(outcome.err, "cpuid result=0 ") == 2);
  BOOST_TEST(count(outcome.err, "cpuid result=-2 ") == 1);
}

KVM_TEST_CASE(a_plugin_learns_how_many_vcpus_there_can_be) {
  const std::string said = play(kStart).err, key = "hello max_vcpus=";
  const std::size_t at = said.find(key);
  BOOST_REQUIRE(at != std::string::npos);
  BOOST_TEST(std::stoul(said.substr(at + key.size())) >= 240u);  // Linux 2.6.36
}

KVM_TEST_CASE(two_vms_at_once_have_their_own_vcpus) {
  check_process(play(kStart + kStart + "use:0" + kResetAndRun + "use:1" + kResetAndRun),
                {{"vcpu_reset vm=4 vcpu=0", 1}, {"vcpu_reset", 2}});
}

KVM_TEST_CASE(the_vms_descriptor_is_closed_before_its_vcpus) {
  const ProcessResult outcome = play(kStart + "closevm" + kResetAndRun + "closevcpu:0");
  BOOST_TEST(outcome.status == 0);
  const std::size_t reset = outcome.err.find("vcpu_reset vm=4 vcpu=0 plugin=test_plugin result=0");
  const std::size_t end = outcome.err.find("vm_destroyed vm=4");
  BOOST_REQUIRE(reset != std::string::npos);
  BOOST_REQUIRE(end != std::string::npos);
  BOOST_TEST(reset < end);
}

KVM_TEST_CASE(the_guests_cpuid_is_the_one_that_the_vmm_set) {
  const ProcessResult outcome = play(" vm vcpu:0 cpuid:0 run:0" + kResetAndRun, "cpuid");
  BOOST_TEST(contains(outcome.err, "test_plugin: cpuid result=0 " +
                                       outcome.out.substr(6, outcome.out.find('\n') - 6)));
  BOOST_TEST(contains(play(kStart + kResetAndRun, "cpuid").err, "cpuid result=-2"));
}

KVM_TEST_CASE(two_plugins_are_called_in_order) {
  const std::string both = std::string(TEST_PLUGIN) + ",slow;" + TEST_PLUGIN;
  const ProcessResult outcome = play(kStart + kResetAndRun, "", {{"VMM_PLUGINS", both}});
  BOOST_TEST(count(outcome.err, "vm_created") == 2);
  BOOST_TEST(count(outcome.err, "vcpu_reset") == 2);
}

KVM_TEST_CASE(a_plugin_may_use_libcs_ioctl) {
  check_process(play(kStart + kResetAndRun, "own-ioctl"), {{"vcpu_reset", 1}});
}

// ---- threads, processes, descriptors -----------------------------------------------------------

KVM_TEST_CASE(vcpus_that_wander_between_threads) {
  check_process(
      play(" vm thread:vcpu:0 thread:run:0 thread:sregs:0:reset thread:regs:0:reset thread:mp:0 "
           "thread:run:0"),
      {{"vcpu_reset", 1}});
}

KVM_TEST_CASE(many_vcpus_reset_at_once) {
  check_process(play(" vm vcpu:0 vcpu:1 vcpu:2 vcpu:3 storm:250", "cpuid"),
                {{"vcpu_reset vm=4 vcpu=3", 250},
                 {"vcpu_reset vm=", 1000},
                 {"cpuid result=-2 ecx=0 vcpu=3\n", 250}});
}

KVM_TEST_CASE(descriptors_that_were_duplicated) {
  BOOST_TEST(count(play(kStart + "dup:0" + kResetAndRun).err, "vcpu_reset") == 1);
  BOOST_TEST(count(play(kStart + "dup:0 run:0" + kResetAndRun).err, "vcpu_reset") == 1);
  BOOST_TEST(count(play(" vm dupvm vcpu:0 run:0" + kResetAndRun).err, "vcpu_reset") == 1);
  // two VMs with a vCPU 0 each: the name in /proc does not tell them apart
  const ProcessResult two =
      play(kStart + kStart + "dup:0" + kResetAndRun + "use:0 dup:0" + kResetAndRun);
  BOOST_TEST(count(two.err, "vcpu_reset vm=4 vcpu=0") == 1);
  BOOST_TEST(count(two.err, "vcpu_reset") == 2);
}

KVM_TEST_CASE(a_filter_goes_to_the_descriptor_that_the_vmm_gave) {
  check_process(play(" vm dupvm filter:1 replacevm filter:2", "deny"), {{"msr_filter_merged", 2}},
                {{"filter result=0 errno=0", 2}});
}

KVM_TEST_CASE(a_duplicate_that_is_first_used_after_its_original_was_closed_is_told) {
  check_process(play(kStart + "dupclose:0" + kReset + kReset), {{"warning: fd_unknown", 1}});
}

KVM_TEST_CASE(vms_that_come_and_go) {
  check_process(play("churn:100"), {{"vm_created", 100}, {"vm_destroyed vm=", 100}});
}

KVM_TEST_CASE(a_close_that_was_not_seen_heals_when_the_number_comes_again) {
  check_process(play(kStart + "closerange" + kStart + kResetAndRun),
                {{"vcpu_reset", 1}, {"vm_created", 2}, {"vm_destroyed vm=", 1}});
}

KVM_TEST_CASE(the_child_of_a_fork_has_vms_of_its_own) {
  for (const std::string& before : {std::string(), kStart}) {
    const ProcessResult outcome = play(before + "fork" + kStart + kResetAndRun);
    BOOST_TEST(outcome.status == 0);
    BOOST_TEST(count(outcome.err, "vcpu_reset") == 1);
    // the child's lines carry the child's id
    const std::size_t reset = outcome.err.find("info: vcpu_reset");
    BOOST_REQUIRE(reset != std::string::npos);
    const std::size_t line = outcome.err.rfind('[', reset);
    const std::string ids = outcome.err.substr(line, reset - line);
    const std::size_t created = outcome.err.rfind("info: vm_created");
    BOOST_TEST(contains(outcome.err.substr(0, created), ids));
    const std::size_t first = outcome.err.find("vmm_preload[") + std::string("vmm_preload").size();
    BOOST_TEST(outcome.err.compare(first, ids.size(), ids) != 0);  // the first line is the parent's
  }
}

KVM_TEST_CASE(a_child_that_closes_everything_closes_nothing_of_the_parents) {
  for (const char* close : {"forkclose", "vforkclose"}) {
    const ProcessResult outcome = play(kStart + close + kResetAndRun);
    BOOST_TEST(outcome.status == 0);
    BOOST_TEST(count(outcome.err, "vcpu_reset") == 1);
    BOOST_TEST(count(outcome.err, "vm_destroyed") == 0);
  }
}

NOT_SANITIZED
KVM_TEST_CASE(a_sandboxed_thread_may_be_the_one_that_resets) {
  check_process(play(" vm vcpu:0 sandbox run:0" + kReset + "run:0" + kReadMsr + kResetAndRun,
                     "deny,cpuid", {{"VMM_PRELOAD_RESET_RULE", "broad"}}),
                {{"vcpu_reset", 2}});
}

NOT_SANITIZED
KVM_TEST_CASE(beside_another_preloaded_library) {
  const std::string ours = PRELOAD_LIBRARY, other = SECOND_LIBRARY;
  for (const std::string& both : {ours + ":" + other, other + ":" + ours}) {
    const ProcessResult outcome = play(kStart + kResetAndRun, "", {{"LD_PRELOAD", both}});
    BOOST_TEST(outcome.status == 0);
    BOOST_TEST(count(outcome.err, "vcpu_reset") == 1);
    BOOST_TEST(contains(outcome.err, "second library saw"));
  }
}

NOT_SANITIZED
BOOST_AUTO_TEST_CASE(helpers_that_inherit_the_library_stay_silent) {
  const ProcessResult outcome = run({"/bin/sh", "-c", "echo fine; ls / >/dev/null; exit 7"},
                                    {{"LD_PRELOAD", PRELOAD_LIBRARY},
                                     {"VMM_PLUGINS", "/no/such/plugin.so"},
                                     {"VMM_PRELOAD_LOG", "/no/such/log"},
                                     {"VMM_PRELOAD_RESET_RULE", "nonsense"}});
  BOOST_TEST(outcome.status == 7);
  BOOST_TEST(outcome.out == "fine\n");
  BOOST_TEST(outcome.err == "");
}

NOT_SANITIZED
KVM_TEST_CASE(a_vmm_that_calls_the_hooks_itself_is_left_alone) {
  check_process(
      run({TINY_VMM_NATIVE, "vm", "vcpu:0", "run:0", "sregs:0:reset", "regs:0:reset", "mp:0"},
          {{"LD_PRELOAD", PRELOAD_LIBRARY},
           {"VMM_PLUGINS", std::string(TEST_PLUGIN) + ",fail-create"},
           {"VMM_PRELOAD_LOG", "stderr"}}),
      {{"\n", 1}, {"info: inert", kSome}});
}

// ---- what goes wrong ---------------------------------------------------------------------------

namespace {

struct Refusal {
  const char* name;
  std::string plugins;
  Variables more;
  int code;  // errno of KVM_CREATE_VM
  const char* reason;
};
std::ostream& operator<<(std::ostream& out, const Refusal& refusal) { return out << refusal.name; }

const std::vector<Refusal> kRefusals{
    {"vm_created fails", TEST_PLUGIN ",fail-created", {}, EPERM, "vm_created was told to fail"},
    {"create fails", TEST_PLUGIN ",fail-create", {}, EPERM, "create was told to fail"},
    {"options that do not parse", TEST_PLUGIN ",bogus=1", {}, EINVAL, "unknown option"},
    {"no such file", "/no/such/plugin.so", {}, ENOENT, "there is no file '/no/such/plugin.so'"},
    {"no such name", "nosuch.so", {}, ENOENT, "there is no 'nosuch.so' in "},
    {"no plugin", SECOND_LIBRARY, {}, EINVAL, "is not a plugin"},
    {"a reset rule that is none",
     TEST_PLUGIN,
     {{"VMM_PRELOAD_RESET_RULE", "x"}},
     EINVAL,
     "VMM_PRELOAD_RESET_RULE=x: use strong or broad"},
    {"the second of two",
     TEST_PLUGIN ";" TEST_PLUGIN ",fail-created",
     {},
     EPERM,
     "vm_created was told to fail"},
};

}  // namespace

BOOST_DATA_TEST_CASE(what_cannot_be_given_refuses_the_vm, boost::unit_test::data::make(kRefusals),
                     refusal) {
  if (skipped_without_kvm()) return;
  Variables more = refusal.more;
  more["VMM_PLUGINS"] = refusal.plugins;
  more["VMM_PRELOAD_LOG"] = "";
  const ProcessResult outcome = play(kStart, "", more);
  BOOST_TEST(outcome.status == 3);
  BOOST_TEST(outcome.out == "KVM_CREATE_VM: " + std::to_string(refusal.code) + "\n");
  BOOST_TEST(count(outcome.err, "\n") == 1);  // one clear line
  BOOST_TEST(contains(outcome.err, "error: vm_refused vm=4 "));
  BOOST_TEST(contains(outcome.err, refusal.reason));
}

KVM_TEST_CASE(the_child_of_a_fork_is_refused_what_its_parent_would_be) {
  // the plugins were loaded, and failed to, before the fork
  for (const char* plugins : {"/no/such/plugin.so", TEST_PLUGIN ",fail-create"}) {
    const ProcessResult outcome = play("fork vm", "", {{"VMM_PLUGINS", plugins}});
    BOOST_TEST(outcome.status == 3);
    BOOST_TEST(count(outcome.err, "error: vm_refused") == 1);
  }
}

KVM_TEST_CASE(a_refused_vm_takes_its_first_plugins_back) {
  check_process(play(kStart, "", {{"VMM_PLUGINS", TEST_PLUGIN ";" TEST_PLUGIN ",fail-created"}}),
                {{"test_plugin: goodbye", 1}}, {}, 3);
}

KVM_TEST_CASE(the_operator_may_choose_to_go_on_without_a_plugin) {
  check_process(
      play(kStart + kResetAndRun, "",
           {{"VMM_PRELOAD_ON_ERROR", "continue"}, {"VMM_PLUGINS", "/no/such.so;" TEST_PLUGIN}}),
      {{"error: plugin_left_out vm=4 errno=2 reason=", 1}, {"vcpu_reset", 1}});
}

KVM_TEST_CASE(no_plugin_at_all_is_worth_a_warning) {
  check_process(play(kStart, "", {{"VMM_PLUGINS", ""}, {"VMM_PRELOAD_LOG", ""}}),
                {{"\n", 1}, {"warning: no_plugin", kSome}});
}

// ---- the configuration file --------------------------------------------------------------------

namespace {

/// The VMM with no variable but the one that names the file.
ProcessResult play_configured(const std::string& file, const std::string& script,
                              const Variables& more = {}) {
  Variables variables{{"VMM_PLUGINS_CONFIG", file}};
  for (const auto& [name, value] : more) variables[name] = value;
  Strings command = words(script);
  command.insert(command.begin(), TINY_VMM);
  return run(command, preloaded(variables));
}

}  // namespace

KVM_TEST_CASE(a_file_says_what_the_variables_would) {
  const TemporaryFolder folder;
  const std::string file =
      folder.file("c.conf", "log = stderr\n[program tiny_vmm*]\nplugin = " TEST_PLUGIN "\n");
  const ProcessResult outcome = play_configured(file, kStart + kResetAndRun);
  BOOST_TEST(outcome.status == 0);
  BOOST_TEST(count(outcome.err, "vcpu_reset") == 1);
  // a variable that is set and empty leaves this process out
  const ProcessResult without = play_configured(file, kStart + kResetAndRun, {{"VMM_PLUGINS", ""}});
  BOOST_TEST(without.status == 0);
  BOOST_TEST(count(without.err, "vcpu_reset") == 0);
}

KVM_TEST_CASE(a_vm_that_the_file_leaves_out_runs_without) {
  const TemporaryFolder folder;
  const std::string file =
      folder.file("c.conf", "log = stderr\n[program qemu-system-*]\nplugin = /no/such/plugin.so\n");
  const ProcessResult outcome = play_configured(file, kStart + kResetAndRun);
  BOOST_TEST(outcome.status == 0);
  BOOST_TEST(count(outcome.err, "vcpu_reset") == 0);
  BOOST_TEST(contains(outcome.err, "info: no_plugin vm=4 reason=\"" + file + " names no plugin"));
}

KVM_TEST_CASE(a_bad_line_refuses_the_vm_unless_the_operator_said_otherwise) {
  const TemporaryFolder folder;
  const std::string lines = "plugin = " TEST_PLUGIN "\nbogus = 1\n";
  const std::string bad = folder.file("bad.conf", lines);
  const ProcessResult refused = play_configured(bad, kStart);
  BOOST_TEST(refused.status == 3);
  BOOST_TEST(refused.out == "KVM_CREATE_VM: " + std::to_string(EINVAL) + "\n");
  BOOST_TEST(count(refused.err, "\n") == 1);
  BOOST_TEST(contains(refused.err, "error: vm_refused vm=4 errno=22 reason=\"" + bad +
                                       ":2: 'bogus': use plugin, log, reset-rule or on-error"));
  const std::string going_on = folder.file("on.conf", "on-error = continue\n" + lines);
  const ProcessResult outcome =
      play_configured(going_on, kStart + kResetAndRun, {{"VMM_PRELOAD_LOG", "stderr"}});
  BOOST_TEST(outcome.status == 0);
  BOOST_TEST(contains(outcome.err, "error: plugin_left_out vm=4 errno=22 reason=\"" + going_on));
  BOOST_TEST(count(outcome.err, "vcpu_reset") == 1);
  // who wrote a file that others may write is not known: it decides nothing
  chmod(going_on.c_str(), 0666);
  BOOST_TEST(play_configured(going_on, kStart).status == 3);
}

KVM_TEST_CASE(without_a_log_success_is_one_line_per_vm) {
  const ProcessResult outcome = play(kStart + kResetAndRun + kStart, "", {{"VMM_PRELOAD_LOG", ""}});
  BOOST_TEST(outcome.status == 0);
  BOOST_TEST(count(outcome.err, "\n") == 2);
  BOOST_TEST(count(outcome.err, "notice: vm_ready vm=") == 2);
  BOOST_TEST(contains(outcome.err, "notice: vm_ready vm=4 name=\"\" plugins=\"test_plugin "));
  const ProcessResult refused = play(kStart, "fail-created", {{"VMM_PRELOAD_LOG", ""}});
  BOOST_TEST(!contains(refused.err, "vm_ready"));
}

KVM_TEST_CASE(a_log_that_cannot_be_written_does_not_stop_the_vm) {
  check_process(play(kStart + kResetAndRun, "", {{"VMM_PRELOAD_LOG", "/no/such/folder/log"}}),
                {{"\n", 2}, {"warning: log_failed errno=2", kSome}});
}

KVM_TEST_CASE(a_log_file_has_the_events_and_standard_error_the_errors) {
  std::array<char, 32> path{"/tmp/vmm_preload_XXXXXX"};
  close(mkstemp(path.data()));
  const ProcessResult outcome =
      play(kStart + kResetAndRun, "fail-reset", {{"VMM_PRELOAD_LOG", path.data()}});
  std::ostringstream log;
  log << std::ifstream(path.data()).rdbuf();
  std::filesystem::remove(path.data());
  BOOST_TEST(outcome.status == 0);
  BOOST_TEST(contains(log.str(), "info: vm_created"));
  BOOST_TEST(contains(log.str(), "error: vcpu_reset vm=4 vcpu=0 plugin=test_plugin result=-1"));
  BOOST_TEST(count(outcome.err, "\n") == 1);
  BOOST_TEST(contains(outcome.err, "error: vcpu_reset"));
}

KVM_TEST_CASE(failures_of_the_vmms_own_calls_stay_what_they_are) {
  check_process(play(kStart + "badmsrs:0 shortmsrs:0" + kReset + "run:0"), {{"vcpu_reset vm=", 1}},
                {{"badmsrs result=-1 errno=14\n", kSome}, {"shortmsrs result=1\n", kSome}});
}

KVM_TEST_CASE(what_kvm_refused_was_not_written) {
  check_process(play(kStart + " sregs:0:reset regs:0:reset shortmsrs:0 mp:0 run:0", ""),
                {{"vcpu_reset vm=", 1}, {"vcpu_reset_left", 0}}, {{"shortmsrs result=1\n", kSome}});
}

// ---- the MSR filter ----------------------------------------------------------------------------

namespace {
constexpr const char* kFaulted = "exit=5 bx=6b47";
constexpr const char* kRead = "exit=5 bx=600d";
constexpr const char* kReadZero = "exit=5 bx=600d ax=0\n";
}  // namespace

KVM_TEST_CASE(a_guest_reads_what_nobody_denies) {
  BOOST_TEST(contains(play(" vm vcpu:0 " + kReadMsr).out, kRead));
}

KVM_TEST_CASE(what_a_plugin_denies_is_answered_as_kvm_does_with_its_vpmu_off) {
  // exits:1 asks for those of unknown MSRs, not for those of a filter
  for (const char* vmms_exits : {"", "exits ", "exits:1 "}) {
    const ProcessResult outcome =
        play(" vm vcpu:0 " + (vmms_exits + kReadMsr) + kReadCore + kReadMsr, "deny");
    BOOST_TEST(count(outcome.out, kReadZero) == 2);
    BOOST_TEST(count(outcome.out, kFaulted) == 1);
    BOOST_TEST(count(outcome.err, "msr_exit_answered vm=4 vcpu=0 msr=c0010000 answer=ignored") ==
               1);
    BOOST_TEST(count(outcome.err, "msr_exit_answered") == 1);
  }
  BOOST_TEST(contains(play(" vm vcpu:0 " + kReadCore, "deny").err, "msr=c0010200 answer=#GP"));
}

KVM_TEST_CASE(exits_of_a_vcpu_that_only_runs_are_answered_too) {
  check_process(play(" vm vcpu:0 exits sregs:0:late regs:0:late run:0 run:0", "deny"), {},
                {{kFaulted, 1}});
}

KVM_TEST_CASE(the_vmms_own_filter_and_the_denied_msrs_together) {
  check_process(play(" vm exits vcpu:0 filter:3 " + kReadCore + "filter:14" + kReadCore, "deny"),
                {}, {{"filter result=0", 2}, {kFaulted, 2}});
}

KVM_TEST_CASE(a_filter_without_room_is_refused_and_the_old_one_stays) {
  const ProcessResult outcome = play(" vm vcpu:0 filter:15 " + kReadCore, "deny");
  BOOST_TEST(contains(outcome.out, "filter result=-1 errno=" + std::to_string(ENOSPC) + "\n"));
  BOOST_TEST(contains(outcome.err, "error: msr_filter_full vm=4 ranges=17"));
  BOOST_TEST(contains(outcome.out, kFaulted));
  BOOST_TEST(contains(play(" vm filter:2", "deny-many").out, "filter result=-1"));
}

// ---- hidden CPUID, and what the VMM was told ----------------------------------------------------

SIMULATED_ONLY
BOOST_AUTO_TEST_CASE(hidden_cpuid_bits_reach_neither_the_vmm_nor_kvm) {
  const std::string script =
      " vm vcpu:0 cpuid:0 getcpuid:0 fullcpuid:0 getcpuid:0 run:0 fullcpuid:0 getcpuid:0" +
      kReadCore;
  const ProcessResult plain = play(script, "supported");
  BOOST_TEST(count(plain.out, "getcpuid core=1") == 3);
  BOOST_TEST(contains(plain.out, kRead));
  BOOST_TEST(contains(plain.err, "supported result=0 core=1"));

  const ProcessResult hidden = play(script, "hide,supported,cpuid");
  BOOST_TEST(hidden.status == 0);
  BOOST_TEST(count(hidden.out, "getcpuid core=0") == 3);
  // the VMM's own table stays as it is, and KVM finds the one after KVM_RUN to be the same
  BOOST_TEST(count(hidden.out, "fullcpuid result=0 core=1") == 2);
  BOOST_TEST(contains(hidden.err, "supported result=0 core=1"));
  const std::size_t ecx = plain.out.find("cpuid ecx=") + 10;
  const auto offered = std::stoul(plain.out.substr(ecx), nullptr, 16);
  const auto shown = std::stoul(hidden.out.substr(hidden.out.find("cpuid ecx=") + 10), nullptr, 16);
  BOOST_TEST(shown == (offered & ~(1ul << 23)));
  std::ostringstream asked;
  asked << "cpuid result=0 ecx=" << std::hex << shown;
  BOOST_TEST(contains(hidden.err, asked.str()));
}

KVM_TEST_CASE(plugins_learn_what_the_vmm_was_told_of_the_pmu) {
  // the VMM's own words are its script: one that says nothing of a PMU
  BOOST_TEST(contains(play(" vm vcpu:0", "guest-pmu").err, "guest_pmu wanted=0"));
  BOOST_TEST(contains(play(" -cpu host,-pmu vm", "guest-pmu").err, "guest_pmu wanted=1"));
  BOOST_TEST(contains(play(" -cpu host,pmu=on vm", "guest-pmu").err, "guest_pmu wanted=2"));
}

// ---- what a plugin set and the VMM would undo --------------------------------------------------

SIMULATED_ONLY
BOOST_AUTO_TEST_CASE(a_vpmu_that_a_plugin_switched_off_stays_off) {
  const std::string script = " vm pmucap:0 pmucap:0 vcpu:0 cpuid:0 " + kReadCore;
  BOOST_TEST(contains(play(script).out, kRead));
  const ProcessResult off = play(script, "disable-pmu");
  BOOST_TEST(count(off.out, "pmucap result=0 errno=0 argument=0") == 2);  // all that the VMM sees
  BOOST_TEST(contains(off.out, kFaulted));
  BOOST_TEST(count(off.err, "warning: pmu_kept_off vm=4 ") == 1);
  BOOST_TEST(count(play(" vm pmucap:1 vcpu:0", "disable-pmu").err, "pmu_kept_off") == 0);
}

SIMULATED_ONLY
BOOST_AUTO_TEST_CASE(why_a_host_that_mediates_the_vpmu_makes_no_vcpu) {
  const Variables busy{{"SIM_DEV_KVM", "sim:linux-7.2,host-perfmonv2,mediated,host-perf-busy"}};
  const ProcessResult outcome = play(" vm irqchip vcpu:0", "", busy);
  BOOST_TEST(outcome.status == 2);
  BOOST_TEST(contains(outcome.out, "KVM_CREATE_VCPU: Device or resource busy"));
  BOOST_TEST(count(outcome.err, "error: vcpu_busy vm=4 vcpu=0 errno=16 ") == 1);
  BOOST_TEST(contains(outcome.err, "sysctl kernel.nmi_watchdog=0"));
}

// ---- svm_pmu itself ----------------------------------------------------------------------------

namespace {

ProcessResult play_svm_pmu(const std::string& script, const std::string& options,
                           const std::string& kvm = "sim:linux-6.12") {
  return play(script, "",
              {{"VMM_PLUGINS", std::string(SVM_PMU) + "," + options}, {"SIM_DEV_KVM", kvm}});
}

}  // namespace

SIMULATED_ONLY
BOOST_AUTO_TEST_CASE(svm_pmu_keeps_the_vpmu_off_when_the_vmm_turns_it_on_again) {
  const ProcessResult off =
      play_svm_pmu(" vm pmucap:0 vcpu:0 cpuid:0 " + kReadCore, "pmu-cap-disabled=on");
  BOOST_TEST(contains(off.out, "pmucap result=0"));
  BOOST_TEST(contains(off.out, kFaulted));
  BOOST_TEST(count(off.err, "warning: pmu_kept_off vm=4 ") == 1);
}

SIMULATED_ONLY
BOOST_AUTO_TEST_CASE(the_line_of_a_vm_says_what_svm_pmu_does_for_it) {
  const auto line_of = [](const std::string& options) { return play_svm_pmu(" vm", options).err; };
  const std::string begin = "notice: vm_ready vm=4 name=\"\" plugins=\"svm_pmu ";
  const std::string off = line_of("pmu-cap-disabled=on");
  BOOST_TEST(contains(off, begin));
  BOOST_TEST(contains(off, ": off\"\n"));
  BOOST_TEST(contains(line_of("pmu-cap-disabled=off"), ": reset\"\n"));
}

SIMULATED_ONLY
BOOST_AUTO_TEST_CASE(a_guest_that_svm_pmu_filters_reads_0_from_k7_and_faults_beyond) {
  const std::string options = "pmu-cap-disabled=on,pmu-off-method=msr-filter";
  const std::string start = " vm vcpu:0 cpuid:0 msrs:0:value ";
  BOOST_TEST(contains(play_svm_pmu(start + kReadMsr, options).out, kReadZero));
  BOOST_TEST(contains(play_svm_pmu(start + kReadCore, options).out, kFaulted));
}

SIMULATED_ONLY
BOOST_AUTO_TEST_CASE(svm_pmu_resets_a_machine_that_starts_and_not_one_that_is_loaded) {
  const std::string before = " vm vcpu:0 cpuid:0 " + kReset + "run:0 msrs:0:value run:0 " + kReset;
  const ProcessResult loaded = play_svm_pmu(before + "sregs:0:guest regs:0:guest mp:0 run:0", "");
  BOOST_TEST(contains(loaded.out, "exit=5 bx=600d ax=10\n"));
  BOOST_TEST(count(loaded.err, "rule=strong") == 0);
  const ProcessResult started = play_svm_pmu(before + "run:0" + kReadMsr, "");
  BOOST_TEST(contains(started.out, kReadZero));
  BOOST_TEST(count(started.err, "rule=strong") == 1);
}

SIMULATED_ONLY
BOOST_AUTO_TEST_CASE(svm_pmu_resets_a_vcpu_when_it_is_created) {
  // Linux 6.6 leaves GLOBAL_CTL 0 there, so that a guest of PerfMonV1 would count nothing
  const ProcessResult outcome = play_svm_pmu(" vm vcpu:0 cpuid:0 " + kReset + "run:0",
                                             "log-level=info", "sim:linux-6.6,host-perfmonv2");
  BOOST_TEST(count(outcome.err, "vcpu_reset vm=4 vcpu=0 plugin=svm_pmu result=0 rule=creation") ==
             1);
}

KVM_TEST_CASE(a_vm_with_denied_msrs_ends_as_any_other) {
  check_process(play(" vm vcpu:0 vcpu:1 closevcpu:0 closevm closevcpu:1", "deny"),
                {{"vm_destroyed vm=4", 1}});
}

// ---- cost --------------------------------------------------------------------------------------

NOT_SANITIZED
KVM_TEST_CASE(an_ioctl_of_the_vmm_stays_one_ioctl) {
  const Variables both{{"LD_PRELOAD", PRELOAD_LIBRARY ":" SECOND_LIBRARY}};
  const auto ioctls = [&](const std::string& rounds, const std::string& options) {
    const ProcessResult outcome = play(kStart + "runs:" + rounds, options, both);
    const std::string says = "second library saw ioctls: ";
    const std::size_t at = outcome.err.find(says);
    BOOST_REQUIRE(at != std::string::npos);
    return std::stol(outcome.err.substr(at + says.size()));
  };
  // each round is a KVM_RUN and an ioctl that is not KVM's
  for (const char* options : {"", "deny"})
    BOOST_TEST(ioctls("3000", options) - ioctls("1000", options) == 2 * 2000);
}

// ---- the launcher, QEMU ------------------------------------------------------------------------

NOT_SANITIZED
KVM_TEST_CASE(the_launcher_sets_it_all_up) {
  Strings command{VMM_RUN, "--plugin", TEST_PLUGIN, "--log", "stderr", "--", TINY_VMM};
  for (const std::string& word : words(kStart + kResetAndRun)) command.push_back(word);
  const ProcessResult outcome = run(command, {});
  BOOST_TEST(outcome.status == 0);
  BOOST_TEST(count(outcome.err, "vcpu_reset") == 1);
}

namespace {

ProcessResult launch(const Strings& arguments,
                     Variables variables = {{"VMM_PLUGINS", ""}, {"VMM_PLUGINS_CONFIG", ""}}) {
  Strings command{VMM_RUN};
  command.insert(command.end(), arguments.begin(), arguments.end());
  return run(command, variables);
}

struct Answer {
  const char* name;
  Strings arguments;
  int status;
  const char* says;  // in its one line
};
std::ostream& operator<<(std::ostream& out, const Answer& answer) { return out << answer.name; }

// none of them gets as far as /dev/kvm
const std::vector<Answer> kAnswers{
    {"no such plugin", {"--plugin", "nosuch.so", "--", "sh"}, 125, "there is no 'nosuch.so' in "},
    {"not a plugin", {"--plugin", SECOND_LIBRARY, "--", "sh"}, 125, "is not a plugin"},
    {"no plugin", {"--check", "--", "sh"}, 125, "no plugin was named"},
    {"an empty plugin", {"--plugin=", "--", "sh"}, 125, "--plugin: its value is empty"},
    {"no program", {"--plugin", TEST_PLUGIN, "--", "no-such-program"}, 127, "not found in PATH"},
    {"no log",
     {"--plugin", TEST_PLUGIN, "--log", "/no/such/log", "--", "sh"},
     125,
     "the log /no/such/log: No such file"},
    {"a reset rule that is none",
     {"--plugin", TEST_PLUGIN, "--reset-rule", "weak", "--", "sh"},
     125,
     "--reset-rule weak: use strong or broad"},
    {"the same plugin twice",
     {"--plugin", TEST_PLUGIN, "--plugin", TEST_PLUGIN ",cpuid", "--", "sh"},
     125,
     "the same plugin is named twice"},
    {"options that the plugin does not have",
     {"--check", "--plugin", TEST_PLUGIN ",bogus=1", "--", "sh"},
     125,
     "unknown option"},
    {"options without a comma",
     {"--plugin", "svm_pmu.so", "pmu-cap-disabled=on", "--", "sh"},
     127,
     "a plugin's options go after a comma: --plugin svm_pmu.so,pmu-cap-disabled=on"},
    {"a variable", {"-v"}, 125, "--version says the version"},
};

}  // namespace

BOOST_DATA_TEST_CASE(the_launcher_says_what_cannot_work, boost::unit_test::data::make(kAnswers),
                     answer) {
  if (LINKED && answer.name == std::string("options that the plugin does not have")) return;
  const ProcessResult outcome = launch(answer.arguments);
  BOOST_TEST(outcome.status == answer.status);
  BOOST_TEST(count(outcome.err, "\n") == 1);
  BOOST_TEST(contains(outcome.err, "vmm-run: "));
  BOOST_TEST(contains(outcome.err, answer.says));
}

BOOST_AUTO_TEST_CASE(the_launcher_knows_what_has_no_vm_for_a_plugin) {
  const TemporaryFolder folder;
  for (const char* name : {"virsh", "qemu-system-x86_64"})
    std::filesystem::copy_file("/usr/bin/env", folder.path() + "/" + name);
  const auto check = [&](Strings command) {
    command[0] = folder.path() + "/" + command[0];
    command.insert(command.begin(), {"--check", "--plugin", TEST_PLUGIN, "--"});
    return launch(command);
  };
  const ProcessResult client = check({"virsh", "start", "web1"});
  BOOST_TEST(client.status == 125);
  BOOST_TEST(contains(client.err, "virsh is a client"));
  const ProcessResult emulated = check({"qemu-system-x86_64", "-accel", "tcg"});
  BOOST_TEST(emulated.status == 125);
  BOOST_TEST(contains(emulated.err, "use KVM (-accel kvm)"));
}

NOT_SANITIZED
KVM_TEST_CASE(the_launcher_finds_nothing_against_it) {
  BOOST_TEST(launch({"--plugin", TEST_PLUGIN, "--check", "--", "sh"}).status == 0);
  BOOST_TEST(launch({"--help"}).status == 0);
  BOOST_TEST(launch({"--version"}).status == 0);
}

NOT_SANITIZED
KVM_TEST_CASE(the_launcher_judges_the_file) {
  const TemporaryFolder folder;
  const auto check = [&](const std::string& text) {
    return launch({"--check", "--", "sh"}, {{"VMM_PLUGINS_CONFIG", folder.file("c.conf", text)}});
  };
  const ProcessResult good = check("plugin = " TEST_PLUGIN "\n");
  BOOST_TEST(good.status == 0);
  BOOST_TEST(good.out.starts_with("vmm-run: OK: plugins can be loaded into /"));
  BOOST_TEST(good.out.ends_with("/sh\n"));
  const ProcessResult left_out = check("[program qemu-*]\nplugin = " TEST_PLUGIN "\n");
  BOOST_TEST(left_out.status == 0);
  BOOST_TEST(contains(left_out.out, "c.conf leaves this VM out"));
  const ProcessResult bad = check("on-error = continue\nplugin = " TEST_PLUGIN "\n\nbogus\n");
  BOOST_TEST(bad.status == 125);
  BOOST_TEST(contains(bad.err, "c.conf:4: 'bogus': use KEY = VALUE"));
  std::filesystem::create_directory(folder.path() + "/c.conf.d");
  folder.file("c.conf.d/50.conf", "\nlogs = journal\n");
  const ProcessResult drop_in = check("plugin = " TEST_PLUGIN "\n");
  BOOST_TEST(drop_in.status == 125);
  BOOST_TEST(contains(drop_in.err, "c.conf.d/50.conf:2: 'logs': use plugin"));
}

NOT_SANITIZED
KVM_TEST_CASE(the_launcher_leaves_the_file_to_the_library) {
  const TemporaryFolder folder;
  Strings command{"--", TINY_VMM};
  for (const std::string& word : words(kStart + kResetAndRun)) command.push_back(word);
  const ProcessResult outcome = launch(
      command,
      {{"VMM_PLUGINS_CONFIG", folder.file("c.conf", "log = stderr\nplugin = " TEST_PLUGIN "\n")}});
  BOOST_TEST(outcome.status == 0);
  BOOST_TEST(count(outcome.err, "vcpu_reset") == 1);
}

REAL_ONLY
BOOST_AUTO_TEST_CASE(without_kvm_the_launcher_warns_and_passes_the_program_on) {
  // a name space whose /dev has no kvm
  const auto without_kvm = [](const std::string& arguments) {
    return run(
        {"/bin/sh", "-c",
         "unshare -rm sh -c 'mount -t tmpfs none /dev && exec " VMM_RUN " " + arguments + "'"},
        {});
  };
  if (run({"/bin/sh", "-c", "unshare -rm mount -t tmpfs none /dev"}, {}).status != 0) {
    std::printf("SKIPPED: a mount name space cannot be made here\n");
    return;
  }
  const std::string plugin = "--plugin " TEST_PLUGIN " ";
  const ProcessResult outcome = without_kvm(plugin + "-- /usr/bin/env echo fine");
  BOOST_TEST(outcome.status == 0);
  BOOST_TEST(outcome.out == "fine\n");
  BOOST_TEST(outcome.err ==
             "vmm-run: warning: /dev/kvm: No such file or directory; no plugin will be called\n");
  const ProcessResult required = without_kvm(plugin + "--require-kvm -- /usr/bin/env echo fine");
  BOOST_TEST(required.status == 125);
  BOOST_TEST(required.err == "vmm-run: /dev/kvm: No such file or directory\n");
  BOOST_TEST(without_kvm(plugin + "--check -- /usr/bin/env echo fine").status == 125);
  // what is wrong with the command is said first
  const ProcessResult missing = without_kvm("--plugin /no/such.so -- /usr/bin/env echo fine");
  BOOST_TEST(missing.status == 125);
  BOOST_TEST(contains(missing.err, "there is no file '/no/such.so'"));
}

#ifdef PRELOAD_WITH_QEMU
NOT_SANITIZED
KVM_TEST_CASE(qemu_in_its_sandbox) {
  if (!host_preload::find_program("qemu-system-x86_64")) {
    std::printf("SKIPPED: qemu-system-x86_64 is not installed\n");
    return;
  }
  const std::string script =
      "(echo '{\"execute\":\"qmp_capabilities\"}'; sleep 1; echo '{\"execute\":\"system_reset\"}'; "
      "sleep 1; echo '{\"execute\":\"quit\"}'; sleep 1) | LD_PRELOAD=" PRELOAD_LIBRARY
      " VMM_PLUGINS=" TEST_PLUGIN
      ",deny VMM_PRELOAD_LOG=stderr qemu-system-x86_64 -accel kvm -cpu qemu64 -machine q35 -smp 2 "
      "-display none -qmp stdio -sandbox "
      "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
  const ProcessResult outcome = run({"/bin/sh", "-c", script}, {});
  BOOST_TEST(outcome.status == 0);
  BOOST_TEST(count(outcome.err, "vm_created") == 1);
  for (const char* vcpu : {"vcpu=0", "vcpu=1"}) {
    // SeaBIOS itself resets once more after the first reset
    const int resets =
        count(outcome.err, std::string(vcpu) + " plugin=test_plugin result=0 rule=strong");
    BOOST_TEST(resets >= 1);
    BOOST_TEST(resets <= 2);
  }
}
#endif
