// SPDX-License-Identifier: MIT
#include "check/host/judge.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "check/host/checks.hpp"

namespace host_stub {
namespace {

constexpr const char* kBootAndEnd = "boot, reset once, end";

/// The plugin has the same names, in the same order.
constexpr ConformanceRun kRuns[] = {
    {"watch", "two VMs if it can; boot, reset once, end"},
    {"ask", kBootAndEnd},
    {"register", kBootAndEnd},
    {"threads", kBootAndEnd},
    {"slow", "two vCPUs or more; boot, reset once, end"},
    {"batch", "boot, reset five times, end"},
    {"list", "boot, reset, save, restore, reset, end"},
    {"only-reset", kBootAndEnd},
    {"no-vm-created", kBootAndEnd},
    {"fail-create", "the VM must not start"},
    {"positive-create", "the VM must not start"},
    {"never-register", "the VM must not start"},
    {"fail-vm-created", "the VM must not start"},
    {"positive-vm-created", "the VM must not start"},
    {"fail-list", "boot, save, restore and reset, as far as the VMM lets you"},
    {"fail-reset", "boot, reset five times, as far as the VMM lets you"},
};

struct Check {
  unsigned rule;
  void (*run)(const Instances&, Verdicts&);
  const char* absent;  ///< why there is nothing to say if the check says nothing
};

constexpr const char* kNoRegister = "no run 'register'";
constexpr const char* kNoAsk = "no run 'ask' that came so far";
constexpr const char* kNoBatch = "no run 'batch' in which a batch was lent and followed by a reset";
constexpr const char* kNoRestore = "no run 'list' in which a restore was seen at the next reset";

constexpr Check kChecks[] = {
    {5, check_scope, ""},
    {7, check_marker, ""},
    {8, check_table, ""},
    {11, check_register_hooks, kNoRegister},
    {12, check_never_register, "no run 'never-register'"},
    {13, check_failed_create, "no run 'fail-create'"},
    {16, check_kept, "no hook and no destroy was called"},
    {18, check_destroy, "no run came to destroy; a process may end without it"},
    {19, check_threads, "no run 'threads'"},
    {21, check_ioctls, kNoAsk},
    {25, check_cpuid, "no run 'ask', or no get_cpuid"},
    {26, check_extensions, "no run 'ask', or no get_extension"},
    {27, check_null_hooks, "no runs 'only-reset' and 'no-vm-created' with a hook"},
    {28, check_vm_created, "vm_created was not called"},
    {29, check_several_vms, "no run had two VMs"},
    {30, check_refused_vm, "no run 'fail-vm-created'"},
    {31, check_vm_destroyed, "no run came to vm_destroyed"},
    {32, check_cpuid_set, "no run 'ask' with a vcpu_reset and a KVM that answers KVM_GET_CPUID2"},
    {34, check_vcpu_index, "vcpu_reset was not called"},
    {36, check_msr_list_build, "msr_list_build was not called"},
    {37, check_overlaps, "no hook was called"},
    {38, check_nesting, "no hook was called"},
    {43, check_positive_results, "no runs 'positive-create' and 'positive-vm-created'"},
    {44, check_error_buffers, ""},
    {47, check_sinks, "no run 'ask' with msr_list_build or a batch"},
    {50, check_batch_order, kNoBatch},
    {51, check_batch_refused, kNoBatch},
    {52, check_batch_long, kNoBatch},
    {55, check_list_order, kNoRestore},
    {56, check_list_saved, kNoRestore},
    {57, check_list_constant, kNoRestore},
    {59, check_failed_list, "no run 'fail-list' with a reset behind msr_list_build"},
    {62, check_deny_msrs, "no run 'ask', or no deny_msrs"},
    {66, check_sizes, ""},
    {67, check_larger_table, kNoRegister},
    {75, check_hidden, "no run 'ask' with hide_cpuid in which the guest's CPUID was seen"},
    {76, check_hide_cpuid, "no run 'ask', or no hide_cpuid"},
    {77, check_supported, "no run 'ask', or no get_supported_cpuid"},
};

std::string subject_of(const Instances& instances) {
  std::set<std::string> hosts, runs;
  for (const Instance& instance : instances) {
    hosts.insert(text(instance.create(), "name"));
    runs.insert(instance.run);
  }
  return fmt::format("{} (runs: {} of {}; instances of the plugin: {})", fmt::join(hosts, ", "),
                     runs.size(), std::size(kRuns), instances.size());
}

}  // namespace

std::span<const ConformanceRun> conformance_runs() noexcept { return kRuns; }

std::vector<unsigned> conformance_rules() {
  std::vector<unsigned> rules;
  for (const Check& check : kChecks) rules.push_back(check.rule);
  return rules;
}

RuleReport judge_host(const Instances& instances) {
  RuleReport report(subject_of(instances));
  for (const Check& check : kChecks) {
    Verdicts verdicts(check.rule, report);
    check.run(instances, verdicts);
    if (std::ranges::find(report.results(), check.rule, &RuleResult::rule) ==
        report.results().end())
      verdicts.not_applicable(check.absent);
  }
  return report;
}

}  // namespace host_stub
