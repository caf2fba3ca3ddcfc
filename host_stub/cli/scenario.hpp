// SPDX-License-Identifier: MIT
//
// A scenario: what happens to a VM, step by step, and whether each step did what it should.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

#include "stub_vmm/stub_vmm.hpp"

namespace host_stub {

/// A VM and the KVM that it runs on.
struct Machine {
  std::unique_ptr<Kvm> kvm;  ///< outlives the VMM
  std::unique_ptr<StubVmm> vmm;
};

/// Makes the VM on another host that a migration goes to: its KVM by its spec, the source's VMM.
using MakeTarget =
    std::function<VmmResult<Machine>(const std::string& spec, const StubVmm& source)>;

/// A VM on its way through a scenario, and what steps leave for later ones.
struct ScenarioVm {
  Machine machine;
  MakeTarget make_target;
  std::optional<StubVmm::MachineState> saved;

  StubVmm& vmm() { return *machine.vmm; }
};

/// One step, by the name that it has on the command line.
struct ScenarioStep {
  const char* name;
  const char* argument;  ///< what follows "NAME:"; nullptr: nothing does
  const char* help;
  /// Does it; nothing if it did what it should, else what went wrong.
  std::optional<std::string> (*run)(ScenarioVm& vm, const std::string& argument);
};

/// A step and its argument.
struct PlannedStep {
  const ScenarioStep* step = nullptr;
  std::string argument;
};

/// All steps there are.
std::span<const ScenarioStep> scenario_steps();

/// "boot,perf,reset,boot,migrate:sim:linux-6.1+enable_pmu=N". A spec's commas are written as '+'.
/// Error: names the step that does not exist and those that do.
tl::expected<std::vector<PlannedStep>, std::string> parse_scenario(std::string_view text);

/// Runs all steps, telling `events` of each before and after. True if each did what it should.
bool run_scenario(ScenarioVm& vm, std::span<const PlannedStep> steps, const EventSink& events);

}  // namespace host_stub
