// SPDX-License-Identifier: MIT
//
// A host, run once with each option string that the judge asks for, and judged.
#pragma once

#include <boost/test/unit_test.hpp>
#include <functional>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include "check/host/judge.hpp"
#include "support/process.hpp"

namespace host_stub {

/// A file of its own in the folder for temporary files; removed at the end.
class TemporaryRecord {
 public:
  TemporaryRecord();
  ~TemporaryRecord();
  TemporaryRecord(const TemporaryRecord&) = delete;
  TemporaryRecord& operator=(const TemporaryRecord&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// Runs a host with these options of the plugin. Statuses of 128 and more are those of a signal.
using HostRun = std::function<ProcessResult(const std::string& options)>;

/// The judge's report on all runs of a host. A host that crashed is a failure of the test case.
RuleReport judge_runs(const HostRun& run);

/// The numbers of the rules with this verdict.
std::set<unsigned> rules_with(const RuleReport& report, Verdict verdict);

}  // namespace host_stub

/// How Boost.Test prints them.
template <>
struct boost::test_tools::tt_detail::print_log_value<std::set<unsigned>> {
  void operator()(std::ostream& out, const std::set<unsigned>& numbers) const {
    for (const unsigned number : numbers) out << number << ' ';
  }
};
