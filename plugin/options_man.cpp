// SPDX-License-Identifier: MIT
//
// Prints the rows of the option table as those of svm_pmu(7).
#include <cstdio>
#include <string>
#include <string_view>

#include "options.hpp"

namespace {

/// A hyphen that is typed is "\-" in a manual page; a plain one may become another character.
std::string typed(std::string_view text) {
  std::string out;
  for (const char c : text) out += c == '-' ? std::string("\\-") : std::string(1, c);
  return out;
}

}  // namespace

int main() {
  for (const svm_pmu::OptionRow& row : svm_pmu::kOptionTable)
    std::printf(".TP\n\\fB%s\\fR=\\fI%s\\fR\n%s.\nDefault: %s.\n", typed(row.key).c_str(),
                typed(row.values).c_str(), typed(row.help).c_str(),
                typed(row.default_value).c_str());
}
