// SPDX-License-Identifier: MIT
#include "check/report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace host_stub {
namespace {

struct VerdictName {
  const char* padded;
  const char* json;
};
/// By Verdict.
constexpr VerdictName kVerdicts[] = {
    {"pass", "pass"}, {"FAIL", "fail"}, {"n/a ", "not applicable"}};

const VerdictName& name_of(Verdict verdict) { return kVerdicts[static_cast<std::size_t>(verdict)]; }

/// Which verdict stands where a rule has several.
constexpr int weight(Verdict verdict) {
  return verdict == Verdict::fail ? 2 : verdict == Verdict::pass ? 1 : 0;
}

const char* title_of(unsigned number) {
  const Rule* rule = find_rule(number);
  return rule != nullptr ? rule->title : "no such rule";
}

}  // namespace

void RuleReport::add(const RuleResult& result) {
  const auto at =
      std::lower_bound(results_.begin(), results_.end(), result.rule,
                       [](const RuleResult& row, unsigned number) { return row.rule < number; });
  if (at == results_.end() || at->rule != result.rule) {
    results_.insert(at, result);
  } else if (weight(result.verdict) > weight(at->verdict)) {
    *at = result;
  } else if (result.verdict == at->verdict && !result.seen.empty() && result.seen != at->seen) {
    at->seen += (at->seen.empty() ? "" : "; ") + result.seen;
  }
}

std::size_t RuleReport::count(Verdict verdict) const noexcept {
  return static_cast<std::size_t>(
      std::count_if(results_.begin(), results_.end(),
                    [&](const RuleResult& row) { return row.verdict == verdict; }));
}

bool RuleReport::good() const noexcept {
  return count(Verdict::fail) == 0 && count(Verdict::pass) > 0;
}

std::string RuleReport::text() const {
  std::string out = subject_ + "\n";
  for (const RuleResult& row : results_) {
    out += fmt::format("{:<7} {} {}\n", fmt::format("VMM-{}", row.rule),
                       name_of(row.verdict).padded, title_of(row.rule));
    if (!row.seen.empty()) out += fmt::format("             {}\n", row.seen);
  }
  return out + fmt::format("{} passed, {} failed, {} not applicable\n", count(Verdict::pass),
                           count(Verdict::fail), count(Verdict::not_applicable));
}

nlohmann::json RuleReport::json() const {
  nlohmann::json rules = nlohmann::json::array();
  for (const RuleResult& row : results_)
    rules.push_back({{"rule", fmt::format("VMM-{}", row.rule)},
                     {"title", title_of(row.rule)},
                     {"verdict", name_of(row.verdict).json},
                     {"seen", row.seen}});
  return {{"subject", subject_},
          {"rules", std::move(rules)},
          {"passed", count(Verdict::pass)},
          {"failed", count(Verdict::fail)},
          {"not_applicable", count(Verdict::not_applicable)}};
}

std::string list_of_rules(const std::vector<unsigned>& numbers) {
  std::string out;
  for (const unsigned number : numbers) out += fmt::format("VMM-{} {}\n", number, title_of(number));
  return out;
}

}  // namespace host_stub
