// SPDX-License-Identifier: MIT
//
// A scenario: what happens to a VM, step by step, and whether each step did what it should.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

#include "stub_vmm/stub_vmm.hpp"

namespace host_stub {

/// One step, by the name that it has on the command line.
struct ScenarioStep {
  const char* name;
  const char* help;
  /// Does it; nothing if it did what it should, else what went wrong.
  std::optional<std::string> (*run)(StubVmm& vmm, struct ScenarioState& state);
};

/// What steps leave for later ones.
struct ScenarioState {
  std::optional<StubVmm::VmState> saved;
};

/// All steps there are.
std::span<const ScenarioStep> scenario_steps();

/// "boot,perf,reset,boot". Error: names the step that does not exist and those that do.
tl::expected<std::vector<const ScenarioStep*>, std::string> parse_scenario(std::string_view text);

/// Runs all steps, telling `events` of each before and after. True if each did what it should.
bool run_scenario(StubVmm& vmm, std::span<const ScenarioStep* const> steps,
                  const EventSink& events);

}  // namespace host_stub
