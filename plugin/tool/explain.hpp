// SPDX-License-Identifier: MIT
//
// What a line of a guest's or a host's log means, and whether one of the two bugs is behind it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace svm_pmu::tool {

enum class Verdict : uint8_t {
  this_bug,   ///< one of the two that the plugin fixes
  may_be,     ///< it can be: see what it depends on
  not_this,   ///< another thing
  as_wanted,  ///< nothing is wrong
};

/// An explanation of one line.
struct Explanation {
  Verdict verdict = Verdict::may_be;
  std::string meaning;               ///< what the line says
  std::vector<std::string> details;  ///< what its numbers say
  std::string next;                  ///< what to do

  friend bool operator==(const Explanation&, const Explanation&) = default;
};

/// A kind of line. The table is all that the program and its manual page know.
struct LogMessage {
  const char* part;  ///< what the line contains, in any case of letters
  const char* also;  ///< a second part that it must contain; nullptr: none
  const char* log;   ///< whose log it stands in
  Verdict verdict;
  const char* meaning;
  const char* next;
  void (*refine)(std::string_view line, Explanation& explanation);  ///< nullptr: nothing to add
};
std::span<const LogMessage> log_messages();

/// The first row of the table that fits; nullptr: none.
const LogMessage* find_message(std::string_view line);

/// Explains lines of one log in their order: what was said before can matter to a later one.
class Explainer {
 public:
  /// Empty: the line is nothing that the table knows.
  std::optional<Explanation> explain(std::string_view line);

 private:
  bool kexec_seen_ = false;
};

/// In a sentence.
const char* verdict_words(Verdict verdict);

}  // namespace svm_pmu::tool
