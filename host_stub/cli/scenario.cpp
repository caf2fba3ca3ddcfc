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

Outcome boot(ScenarioVm& vm, const std::string&) {
  vm.vmm().guest().boot();
  return judge_guest(vm.vmm().guest());
}

Outcome perf(ScenarioVm& vm, const std::string&) {
  vm.vmm().guest().start_perf();
  return judge_guest(vm.vmm().guest());
}

Outcome stop_perf(ScenarioVm& vm, const std::string&) {
  vm.vmm().guest().stop_perf();
  return judge_guest(vm.vmm().guest());
}

Outcome run(ScenarioVm& vm, const std::string&) {
  vm.vmm().guest().pass_time(LinuxGuest::kBootCycles);
  return judge_guest(vm.vmm().guest());
}

Outcome kexec(ScenarioVm& vm, const std::string&) {
  vm.vmm().guest().kexec();
  return judge_guest(vm.vmm().guest());
}

Outcome reset(ScenarioVm& vm, const std::string&) { return from(vm.vmm().reset()); }

Outcome unplug(ScenarioVm& vm, const std::string&) { return from(vm.vmm().replug()); }

Outcome save(ScenarioVm& vm, const std::string&) {
  auto saved = vm.vmm().save_machine();
  if (!saved) return saved.error().text;
  vm.saved = std::move(*saved);
  return std::nullopt;
}

constexpr const char* kNothingSaved = "nothing was saved before";

Outcome restore(ScenarioVm& vm, const std::string&) {
  if (!vm.saved) return kNothingSaved;
  return from(vm.vmm().restore(vm.saved->msrs));
}

Outcome loadvm(ScenarioVm& vm, const std::string&) {
  if (!vm.saved) return kNothingSaved;
  if (auto done = vm.vmm().reset(); !done) return done.error().text;
  return from(vm.vmm().load_machine(*vm.saved));
}

/// If the target cannot take the VM, it goes on where it is.
Outcome migrate(ScenarioVm& vm, const std::string& spec) {
  auto state = vm.vmm().save_machine();
  if (!state) return state.error().text;
  auto target = vm.make_target(spec, vm.vmm());
  if (!target) return target.error().text;
  if (auto done = target->vmm->load_machine(*state); !done) return done.error().text;
  std::swap(vm.machine, *target);
  target->vmm.reset();  // the source, before its KVM
  return std::nullopt;
}

constexpr ScenarioStep kSteps[] = {
    {"boot", nullptr, "a Linux kernel boots and probes the PMU", boot},
    {"perf", nullptr, "perf top in the guest: a sampling event on each CPU, left running", perf},
    {"stop-perf", nullptr, "the guest ends perf", stop_perf},
    {"run", nullptr, "time passes in the guest; a perf that runs must count", run},
    {"kexec", nullptr, "the guest starts a new kernel by itself, which no VMM sees", kexec},
    {"reset", nullptr, "the VMM resets the machine; vcpu_reset for each vCPU", reset},
    {"unplug", nullptr, "the last vCPU is unplugged and plugged in again, with a reset", unplug},
    {"save", nullptr, "the VMM saves the machine, and the MSRs that plugins list", save},
    {"restore", nullptr, "the VMM restores these MSRs", restore},
    {"loadvm", nullptr, "the VMM resets the machine and loads all that was saved", loadvm},
    {"migrate", "SPEC", "the VM moves to another host; SPEC as --kvm, with + for its commas",
     migrate},
};

std::string names_of_steps() {
  std::string names;
  for (const ScenarioStep& step : kSteps)
    names += (names.empty() ? "" : ", ") + std::string(step.name);
  return names;
}

}  // namespace

std::span<const ScenarioStep> scenario_steps() { return kSteps; }

tl::expected<std::vector<PlannedStep>, std::string> parse_scenario(std::string_view text) {
  std::vector<PlannedStep> steps;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    const std::string_view word = text.substr(at, end - at);
    const std::size_t colon = word.find(':');
    const auto* found =
        std::find_if(std::begin(kSteps), std::end(kSteps),
                     [&](const ScenarioStep& step) { return step.name == word.substr(0, colon); });
    if (found == std::end(kSteps))
      return tl::unexpected(
          fmt::format("scenario '{}': no step '{}'; there are {}", text, word, names_of_steps()));
    if ((found->argument != nullptr) != (colon != std::string_view::npos))
      return tl::unexpected(fmt::format("scenario '{}': step '{}': allowed is {}{}{}", text, word,
                                        found->name, found->argument != nullptr ? ":" : "",
                                        found->argument != nullptr ? found->argument : ""));
    PlannedStep step{found, ""};
    if (found->argument != nullptr) step.argument = word.substr(colon + 1);
    std::replace(step.argument.begin(), step.argument.end(), '+', ',');
    steps.push_back(std::move(step));
    at = end + 1;
  }
  return steps;
}

bool run_scenario(ScenarioVm& vm, std::span<const PlannedStep> steps, const EventSink& events) {
  bool all_good = true;
  for (const auto& [step, argument] : steps) {
    events({Event::Kind::step, step->name, argument, 0, 0});
    const Outcome wrong = step->run(vm, argument);
    if (!wrong) continue;
    all_good = false;
    events({Event::Kind::step, step->name, "WRONG: " + *wrong, -EIO, 0});
  }
  return all_good;
}

}  // namespace host_stub
