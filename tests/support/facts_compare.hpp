// SPDX-License-Identifier: MIT
//
// Do two sets of KVM facts say the same? Every row and every field is compared. Two things may
// differ, as they are no answer of KVM's: what a counter held before it was written ("value" of a
// counter's row: the host's own events may have counted), and what the caller leaves out: a row by
// its "fact", or one field of it by "fact.field".
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

namespace facts {

struct Comparison {
  size_t rows = 0;                       ///< compared
  std::vector<std::string> differences;  ///< one a row: both sides
};

/// Lines of the recording NAME in tests/data/kvm_facts. NAME.jsonl has them all, as `host_stub
/// facts` wrote them. NAME.changes has the name of a recording of as many lines, and then the lines
/// that are others here, each with its number before it. It is made by
///   diff --old-line-format= --unchanged-line-format= --new-line-format='%dn:%L' OTHER.jsonl
///   NAME.jsonl
/// Throws std::runtime_error where there is no such recording.
inline std::vector<std::string> load(const std::string& name) {
  const std::string path = std::string(TEST_DATA_DIR "/kvm_facts/") + name;
  std::vector<std::string> lines;
  if (std::ifstream whole(path + ".jsonl"); whole) {
    for (std::string line; std::getline(whole, line);) lines.push_back(line);
    return lines;
  }
  std::ifstream changes(path + ".changes");
  std::string line;
  if (!std::getline(changes, line)) throw std::runtime_error("there is no recording " + path);
  for (lines = load(line); std::getline(changes, line);)
    lines.at(std::stoul(line) - 1) = line.substr(line.find(':') + 1);
  return lines;
}

inline bool has_recording(const std::string& name) {
  const std::string path = std::string(TEST_DATA_DIR "/kvm_facts/") + name;
  return std::filesystem::exists(path + ".jsonl") || std::filesystem::exists(path + ".changes");
}

inline bool is_counter(const nlohmann::json& row) {
  if (row.value("fact", "") != "msr") return false;
  const auto msr = std::stoul(row.at("msr").get<std::string>(), nullptr, 16);
  const bool legacy = msr >= 0xc0010004 && msr <= 0xc0010007;
  const bool extended = msr >= 0xc0010200 && msr <= 0xc001020b && msr % 2 == 1;
  return legacy || extended;
}

/// Parsed rows, without the rows and the fields that `without` names.
inline std::vector<nlohmann::json> parse(const std::vector<std::string>& lines,
                                         const std::set<std::string>& without) {
  std::vector<nlohmann::json> rows;
  for (const std::string& line : lines) {
    auto row = nlohmann::json::parse(line);
    const std::string fact = row.value("fact", "");
    if (without.contains(fact)) continue;
    for (const std::string& name : without)
      if (name.starts_with(fact + ".")) row.erase(name.substr(fact.size() + 1));
    if (is_counter(row)) row.erase("value");
    rows.push_back(std::move(row));
  }
  return rows;
}

inline Comparison compare(const std::vector<std::string>& expected,
                          const std::vector<std::string>& actual,
                          const std::set<std::string>& without = {}) {
  const auto want = parse(expected, without);
  const auto have = parse(actual, without);
  Comparison result;
  result.rows = std::max(want.size(), have.size());
  for (size_t i = 0; i < result.rows; ++i) {
    const std::string left = i < want.size() ? want[i].dump() : "(no row)";
    const std::string right = i < have.size() ? have[i].dump() : "(no row)";
    if (left != right) result.differences.push_back("expected " + left + "\n  actual " + right);
  }
  return result;
}

}  // namespace facts
