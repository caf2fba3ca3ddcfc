// SPDX-License-Identifier: MIT
//
// What a check finds out, written down where it outlives the process that ran it: the check runs in
// a child with somebody else's code, which may crash, exit, hang, or close every descriptor. So the
// notes are memory that parent and child share, and writing one allocates nothing and makes no
// system call.
#pragma once

#include <fmt/format.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "check/report.hpp"

namespace host_stub::validate {

/// The notes of one check. Any thread of the child may write; the parent reads when it is gone.
class Findings {
 public:
  Findings();
  ~Findings();
  Findings(const Findings&) = delete;
  Findings& operator=(const Findings&) = delete;

  // ---- for the child
  template <typename... Args>
  void fail(unsigned rule, fmt::format_string<Args...> format, Args&&... args) noexcept {
    note(rule, Verdict::fail, fmt::string_view(format), fmt::make_format_args(args...));
  }
  template <typename... Args>
  void pass(unsigned rule, fmt::format_string<Args...> format, Args&&... args) noexcept {
    note(rule, Verdict::pass, fmt::string_view(format), fmt::make_format_args(args...));
  }
  template <typename... Args>
  void not_applicable(unsigned rule, fmt::format_string<Args...> format, Args&&... args) noexcept {
    note(rule, Verdict::not_applicable, fmt::string_view(format), fmt::make_format_args(args...));
  }

  /// The plugin's function that runs from now on, for the words of an accident; "" = none.
  void enter(std::string_view function) noexcept;
  /// The check came to its end.
  void finish() noexcept;

  // ---- for the parent
  /// By the order of their writing; at most kRows, each text at most kText bytes.
  std::vector<RuleResult> results() const;
  bool finished() const noexcept;
  std::string function() const;

 private:
  static constexpr uint32_t kRows = 48;
  static constexpr std::size_t kText = 400;
  static constexpr std::size_t kName = 32;

  struct Row {
    std::atomic<bool> written;
    uint32_t rule;
    Verdict verdict;
    char text[kText];
  };
  struct Page {
    std::atomic<uint32_t> rows;
    std::atomic<bool> finished;
    char function[kName];
    Row row[kRows];
  };

  void note(unsigned rule, Verdict verdict, fmt::string_view format,
            fmt::format_args args) noexcept;

  Page* page_;
};

}  // namespace host_stub::validate
