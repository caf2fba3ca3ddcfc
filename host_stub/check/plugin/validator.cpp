// SPDX-License-Identifier: MIT
#include "check/plugin/validator.hpp"

#include <algorithm>
#include <csignal>
#include <set>
#include <string>
#include <utility>

#include "check/plugin/checks.hpp"
#include "check/plugin/child.hpp"
#include "sanitizers.hpp"

namespace host_stub::validate {
namespace {

/// The check of a whole life where nothing is out of the ordinary.
constexpr unsigned kFirstLife = 10;

std::vector<Check> all_checks() {
  std::vector<Check> all;
  for (const auto checks : {file_checks(), instance_checks(), descriptor_checks(), hook_checks(),
                            msr_checks(), sandbox_checks(), memory_checks()})
    all.insert(all.end(), checks.begin(), checks.end());
  return all;
}

bool has_note(const std::vector<RuleResult>& results, unsigned rule) {
  return std::ranges::any_of(results, [&](const RuleResult& row) { return row.rule == rule; });
}

bool is_wanted(const Order& order, unsigned rule) {
  return order.rules.empty() || std::ranges::find(order.rules, rule) != order.rules.end();
}

/// The rule that a child's accident breaks: an uncaught exception ends in abort.
unsigned rule_of(const ChildEnd& end, unsigned checked, const Order& order) {
  constexpr unsigned kNoExceptions = 46;
  const bool aborted = end.kind == ChildEnd::killed && end.detail == SIGABRT;
  return aborted && is_wanted(order, kNoExceptions) ? kNoExceptions : checked;
}

/// What was noted already: several checks see the same thing.
using Noted = std::set<std::pair<unsigned, std::string>>;

/// Runs one check and adds what it found. True: the others are worth running. They are not after
/// one that hung, since each may take its limit, nor without a first life that comes to its end.
bool run(const Check& check, const Order& order, Noted& noted, RuleReport& report) {
  if (kSanitized && check.sanitizers == Check::without) {
    report.add({check.rule, Verdict::not_applicable,
                "not with a sanitizer, which makes system calls and allocations of its own"});
    return true;
  }
  Findings findings;
  const ChildEnd end =
      run_in_child(findings, order.limit, [&] { check.run(findings, order.subject); });
  std::vector<RuleResult> results = findings.results();
  if (end.kind == ChildEnd::not_made)
    results.push_back({check.rule, Verdict::not_applicable, end.words});
  else if (end.kind != ChildEnd::finished)
    results.push_back({rule_of(end, check.rule, order), Verdict::fail, end.words});
  if (!has_note(results, check.rule)) {
    if (end.kind == ChildEnd::finished)
      results.push_back({check.rule, Verdict::pass, ""});
    else
      results.push_back({check.rule, Verdict::not_applicable, end.words});
  }
  for (const RuleResult& result : results)
    if (is_wanted(order, result.rule) &&
        (noted.emplace(result.rule, result.seen).second || result.verdict != Verdict::fail))
      report.add(result);
  return end.kind == ChildEnd::finished ||
         (check.rule != kFirstLife && end.kind != ChildEnd::timed_out &&
          end.kind != ChildEnd::stopped);
}

}  // namespace

std::vector<unsigned> checked_rules() {
  std::set<unsigned> numbers;
  for (const Check& check : all_checks()) numbers.insert(check.rule);
  return {numbers.begin(), numbers.end()};
}

RuleReport validate(const Order& order) {
  RuleReport report(order.subject.plugin);
  bool go_on = true;
  Noted noted;
  for (const Check& check : all_checks()) {
    if (!is_wanted(order, check.rule)) continue;
    if (go_on)
      go_on = run(check, order, noted, report);
    else
      report.add({check.rule, Verdict::not_applicable,
                  "not run: the plugin did not come back from a check before"});
  }
  return report;
}

}  // namespace host_stub::validate
