// SPDX-License-Identifier: MIT
//
// Judges a host by what host_conformance.so recorded of it, rule by rule of abi/ABI.md.
#pragma once

#include <span>
#include <vector>

#include "check/host/record.hpp"
#include "check/report.hpp"

namespace host_stub {

/// A run of the VMM that the judge wants to see: the plugin's option run=, and what the VMM has to
/// do in it.
struct ConformanceRun {
  const char* name;
  const char* vmm;
};
std::span<const ConformanceRun> conformance_runs() noexcept;

/// The rules that judge_host may speak of, by number.
std::vector<unsigned> conformance_rules();

/// A verdict for each of them, from all records together.
RuleReport judge_host(const std::vector<Instance>& instances);

}  // namespace host_stub
