// SPDX-License-Identifier: MIT
#include "cli/scenario.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

namespace host_stub {
namespace {

using Outcome = std::optional<std::string>;

Outcome judge_guest(const LinuxGuest& guest) {
  const LinuxGuest::State& state = guest.state();
  if (state.not_run) return "the guest could not be run";
  if (state.firmware_bug) return "the guest found event selectors enabled by nobody";
  if (state.unknown_nmis != 0)
    return fmt::format("the guest got {} NMIs for unknown reasons", state.unknown_nmis);
  if (state.dead_counters) return "perf runs in the guest and its counters do not count";
  return std::nullopt;
}

Outcome from(const VmmResult<void>& result) {
  if (result) return std::nullopt;
  return result.error().text;
}

Outcome boot(StubVmm& vmm, ScenarioState&) {
  vmm.guest().boot();
  return judge_guest(vmm.guest());
}

Outcome perf(StubVmm& vmm, ScenarioState&) {
  vmm.guest().start_perf();
  return judge_guest(vmm.guest());
}

Outcome stop_perf(StubVmm& vmm, ScenarioState&) {
  vmm.guest().stop_perf();
  return judge_guest(vmm.guest());
}

Outcome run(StubVmm& vmm, ScenarioState&) {
  vmm.guest().run(LinuxGuest::kBootCycles);
  return judge_guest(vmm.guest());
}

Outcome reset(StubVmm& vmm, ScenarioState&) { return from(vmm.reset()); }

Outcome save(StubVmm& vmm, ScenarioState& state) {
  auto saved = vmm.save();
  if (!saved) return saved.error().text;
  state.saved = std::move(*saved);
  return std::nullopt;
}

Outcome restore(StubVmm& vmm, ScenarioState& state) {
  if (!state.saved) return "nothing was saved before";
  return from(vmm.restore(*state.saved));
}

constexpr ScenarioStep kSteps[] = {
    {"boot", "a Linux kernel boots and probes the PMU", boot},
    {"perf", "perf top in the guest: a sampling event on each CPU, left running", perf},
    {"stop-perf", "the guest ends perf", stop_perf},
    {"run", "time passes in the guest", run},
    {"reset", "the VMM resets the machine; vcpu_reset for each vCPU", reset},
    {"save", "the VMM saves the MSRs that plugins list", save},
    {"restore", "the VMM restores them", restore},
};

}  // namespace

std::span<const ScenarioStep> scenario_steps() { return kSteps; }

tl::expected<std::vector<const ScenarioStep*>, std::string> parse_scenario(std::string_view text) {
  std::vector<const ScenarioStep*> steps;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    const std::string_view word = text.substr(at, end - at);
    const auto* found = std::find_if(std::begin(kSteps), std::end(kSteps),
                                     [&](const ScenarioStep& step) { return step.name == word; });
    if (found == std::end(kSteps)) {
      std::string names;
      for (const ScenarioStep& step : kSteps)
        names += (names.empty() ? "" : ", ") + std::string(step.name);
      return tl::unexpected(
          fmt::format("scenario '{}': no step '{}'; there are {}", text, word, names));
    }
    steps.push_back(found);
    at = end + 1;
  }
  return steps;
}

bool run_scenario(StubVmm& vmm, std::span<const ScenarioStep* const> steps,
                  const EventSink& events) {
  bool all_good = true;
  ScenarioState state;
  for (const ScenarioStep* step : steps) {
    events({Event::Kind::step, step->name, "", 0, 0});
    const Outcome wrong = step->run(vmm, state);
    if (!wrong) continue;
    all_good = false;
    events({Event::Kind::step, step->name, "WRONG: " + *wrong, -EIO, 0});
  }
  return all_good;
}

}  // namespace host_stub
