// SPDX-License-Identifier: MIT
#include "conformance_runs.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <stdexcept>

namespace host_stub {

TemporaryRecord::TemporaryRecord()
    : path_((std::filesystem::temp_directory_path() / "host_conformance_XXXXXX").string()) {
  const int fd = mkstemp(path_.data());
  if (fd < 0) throw std::runtime_error("mkstemp of " + path_);
  close(fd);
}

TemporaryRecord::~TemporaryRecord() { unlink(path_.c_str()); }

RuleReport judge_runs(const HostRun& run) {
  const TemporaryRecord record;
  for (const ConformanceRun& one : conformance_runs()) {
    const ProcessResult result = run(fmt::format("record={},run={}", record.path(), one.name));
    if (result.status >= 128)
      throw std::runtime_error(fmt::format("the host ended with status {} in run {}: {}",
                                           result.status, one.name, result.err));
  }
  const auto instances = read_records({record.path()});
  if (!instances) throw std::runtime_error(instances.error());
  return judge_host(*instances);
}

std::set<unsigned> rules_with(const RuleReport& report, Verdict verdict) {
  std::set<unsigned> numbers;
  for (const RuleResult& result : report.results())
    if (result.verdict == verdict) numbers.insert(result.rule);
  return numbers;
}

}  // namespace host_stub
