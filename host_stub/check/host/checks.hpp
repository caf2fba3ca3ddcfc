// SPDX-License-Identifier: MIT
//
// The checks behind judge.hpp: each looks through all records for one rule. By what they look at:
// checks_create.cpp, checks_answers.cpp, checks_hooks.cpp, checks_marks.cpp.
#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>
#include <vector>

#include "check/host/record.hpp"
#include "check/report.hpp"

namespace host_stub {

using Instances = std::vector<Instance>;

/// Takes the verdicts on one rule. A rule that nobody said anything of is not applicable.
class Verdicts {
 public:
  Verdicts(unsigned rule, RuleReport& report) : rule_(rule), report_(report) {}

  /// `seen` may be empty for a pass.
  void pass(const std::string& seen = {}) { add(Verdict::pass, seen); }
  void not_applicable(const std::string& why) { add(Verdict::not_applicable, why); }
  /// What was seen, in the run of that instance. A few of a rule are enough for a reader.
  void fail(const Instance& instance, const std::string& seen) {
    if (++failures_ <= kMostShown)
      add(Verdict::fail, fmt::format("run {}: {}", instance.run, seen));
  }
  /// fail if `wrong`, else pass.
  void judge(const Instance& instance, bool wrong, const std::string& seen) {
    wrong ? fail(instance, seen) : pass();
  }

 private:
  static constexpr int kMostShown = 3;
  void add(Verdict verdict, const std::string& seen) { report_.add({rule_, verdict, seen}); }

  unsigned rule_;
  RuleReport& report_;
  int failures_ = 0;
};

/// The instances of these runs.
inline std::vector<const Instance*> of_runs(const Instances& instances,
                                            std::initializer_list<std::string_view> runs) {
  std::vector<const Instance*> found;
  for (const Instance& instance : instances)
    for (const std::string_view run : runs)
      if (instance.run == run) found.push_back(&instance);
  return found;
}

// ---- what the process and the host's table are, and what becomes of create
void check_scope(const Instances&, Verdicts&);             // 5
void check_marker(const Instances&, Verdicts&);            // 7
void check_table(const Instances&, Verdicts&);             // 8
void check_register_hooks(const Instances&, Verdicts&);    // 11
void check_never_register(const Instances&, Verdicts&);    // 12
void check_failed_create(const Instances&, Verdicts&);     // 13
void check_kept(const Instances&, Verdicts&);              // 16
void check_destroy(const Instances&, Verdicts&);           // 18
void check_positive_results(const Instances&, Verdicts&);  // 43
void check_error_buffers(const Instances&, Verdicts&);     // 44
void check_sizes(const Instances&, Verdicts&);             // 66
void check_larger_table(const Instances&, Verdicts&);      // 67

// ---- what the host's callbacks and sinks answered
void check_threads(const Instances&, Verdicts&);     // 19
void check_ioctls(const Instances&, Verdicts&);      // 21
void check_cpuid(const Instances&, Verdicts&);       // 25
void check_extensions(const Instances&, Verdicts&);  // 26
void check_cpuid_set(const Instances&, Verdicts&);   // 32
void check_sinks(const Instances&, Verdicts&);       // 47
void check_deny_msrs(const Instances&, Verdicts&);   // 62
void check_hidden(const Instances&, Verdicts&);      // 75
void check_hide_cpuid(const Instances&, Verdicts&);  // 76
void check_supported(const Instances&, Verdicts&);   // 77

// ---- which hooks came, in which order, on which threads
void check_null_hooks(const Instances&, Verdicts&);      // 27
void check_vm_created(const Instances&, Verdicts&);      // 28
void check_several_vms(const Instances&, Verdicts&);     // 29
void check_refused_vm(const Instances&, Verdicts&);      // 30
void check_vm_destroyed(const Instances&, Verdicts&);    // 31
void check_vcpu_index(const Instances&, Verdicts&);      // 34
void check_msr_list_build(const Instances&, Verdicts&);  // 36
void check_overlaps(const Instances&, Verdicts&);        // 37
void check_nesting(const Instances&, Verdicts&);         // 38

// ---- what was found in the registers that were marked
void check_batch_order(const Instances&, Verdicts&);    // 50
void check_batch_refused(const Instances&, Verdicts&);  // 51
void check_batch_long(const Instances&, Verdicts&);     // 52
void check_list_order(const Instances&, Verdicts&);     // 55
void check_list_saved(const Instances&, Verdicts&);     // 56
void check_list_constant(const Instances&, Verdicts&);  // 57
void check_failed_list(const Instances&, Verdicts&);    // 59

}  // namespace host_stub
