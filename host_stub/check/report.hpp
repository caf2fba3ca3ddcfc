// SPDX-License-Identifier: MIT
//
// What came of checking somebody by the rules: a verdict a rule, for people and as JSON. The
// validator of plugins and the judge of hosts both report in this form.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "check/rules.hpp"

namespace host_stub {

enum class Verdict : uint8_t {
  pass,
  fail,
  not_applicable,  ///< this subject, or this machine, gives nothing to check: `seen` says why
};

/// One check's outcome. A rule may have several.
struct RuleResult {
  unsigned rule = 0;  ///< n of VMM-n
  Verdict verdict = Verdict::pass;
  std::string seen;  ///< one line: what was seen; may be empty for a pass
};

/// The outcomes of one subject.
class RuleReport {
 public:
  /// `subject`: what was checked, "svm_pmu 1.0.0 (build/plugin/svm_pmu.so)".
  explicit RuleReport(std::string subject) : subject_(std::move(subject)) {}

  /// Takes an outcome. Those of one rule become one: fail before pass before not applicable, with
  /// the texts of that verdict joined by "; ".
  void add(const RuleResult& result);

  /// By rule, one each.
  const std::vector<RuleResult>& results() const noexcept { return results_; }
  std::size_t count(Verdict verdict) const noexcept;
  /// Nothing failed, and something passed.
  bool good() const noexcept;

  /// A line a rule, then "41 passed, 0 failed, 3 not applicable".
  std::string text() const;
  /// {"subject": ..., "rules": [{"rule": "VMM-1", "title": ..., "verdict": "pass", "seen": ...}],
  ///  "passed": n, "failed": n, "not_applicable": n}
  nlohmann::json json() const;

 private:
  std::string subject_;
  std::vector<RuleResult> results_;
};

/// "VMM-1 the plugin exports ...": a line for each rule number, for a program's --list.
std::string list_of_rules(const std::vector<unsigned>& numbers);

}  // namespace host_stub
