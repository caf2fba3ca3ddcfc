// SPDX-License-Identifier: MIT
#include "tool/explain.hpp"

#include <cstring>

namespace svm_pmu::tool {
namespace {

/// Rows that say: from here on another kernel may boot without a reset.
bool starts_a_kernel(const LogMessage& row) {
  return std::strcmp(row.part, "elfcorehdr=") == 0 || std::strcmp(row.part, "kexec") == 0;
}

}  // namespace

std::optional<Explanation> Explainer::explain(std::string_view line) {
  const LogMessage* row = find_message(line);
  if (row == nullptr) return std::nullopt;
  kexec_seen_ = kexec_seen_ || starts_a_kernel(*row);
  Explanation explanation{row->verdict, row->meaning, {}, row->next};
  if (row->refine != nullptr) row->refine(line, explanation);
  if (kexec_seen_ && explanation.verdict == Verdict::this_bug) {
    explanation.verdict = Verdict::not_this;
    explanation.details.emplace_back(
        "A kexec or a crash kernel stands before it in this log: the register is of the kernel "
        "before, and no reset of the VM came in between.");
    explanation.next = "No VMM can help there; after the next reset of the VM it must be gone.";
  }
  return explanation;
}

const char* verdict_words(Verdict verdict) {
  switch (verdict) {
    case Verdict::this_bug:
      return "In a guest, this is bug 2.";
    case Verdict::may_be:
      return "This can be one of the two bugs.";
    case Verdict::not_this:
      return "This is not one of the two bugs.";
    case Verdict::as_wanted:
      return "Nothing is wrong here.";
  }
  return "";
}

}  // namespace svm_pmu::tool
