// SPDX-License-Identifier: MIT
//
// What a program said: texts in its output, and how often they are there.
#pragma once

#include <boost/test/unit_test.hpp>
#include <string>
#include <vector>

#include "support/process.hpp"

inline int count(const std::string& text, const std::string& part) {
  int n = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// How often a text is there.
struct Times {
  std::string text;
  int times;
};
inline constexpr int kSome = -1;  ///< once or more

inline void check_said(const std::string& said, const std::vector<Times>& wanted) {
  for (const Times& each : wanted) {
    const int found = count(said, each.text);
    BOOST_TEST((each.times == kSome ? found > 0 : found == each.times),
               "'" << each.text << "' is there " << found << " times in:\n"
                   << said);
  }
}

/// A program's exit status, and texts in its standard error and its standard output.
inline void check_process(const ProcessResult& result, const std::vector<Times>& err,
                          const std::vector<Times>& out = {}, int status = 0) {
  BOOST_TEST(result.status == status, result.out << result.err);
  check_said(result.err, err);
  check_said(result.out, out);
}
