// SPDX-License-Identifier: MIT
#include "host_preload/reset_detector.hpp"

#include <algorithm>
#include <array>

namespace host_preload {
namespace {

using Part = ResetState::Part;
using Load = ResetState::Load;
using PmuWrites = ResetState::PmuWrites;

}  // namespace

/// A row of the table in the header.
struct ResetDetector::Verdict {
  bool ran;
  Load load;
  PmuWrites pmu_from;
  PmuWrites pmu_to;
  bool broad_only;
  ResetAction action;

  bool fits(const ResetState& state, ResetRule rule) const noexcept {
    return state.ran == ran && state.load == load && state.pmu >= pmu_from && state.pmu <= pmu_to &&
           (!broad_only || rule == ResetRule::broad);
  }
};

ResetAction ResetDetector::found_by_run(const ResetState& state, ResetRule rule) noexcept {
  using enum ResetState::PmuWrites;
  static constexpr std::array<Verdict, 4> kVerdicts{{
      {true, Load::reset_state, none, control_zeroed, false, ResetAction::reset_strong},
      {true, Load::reset_state, values, values, false, ResetAction::yield},
      {false, Load::reset_state, control_zeroed, control_zeroed, false, ResetAction::repair},
      {true, Load::other_state, none, none, true, ResetAction::reset_broad},
  }};
  for (const Verdict& verdict : kVerdicts)
    if (verdict.fits(state, rule)) return verdict.action;
  return ResetAction::none;
}

ResetState ResetDetector::after(ResetState state, VcpuEvent event) noexcept {
  switch (event) {
    case VcpuEvent::run:
      return kRunning;
    case VcpuEvent::cpuid:
      break;
    case VcpuEvent::sregs_reset:
      state.segments = Part::at_vector;
      break;
    case VcpuEvent::sregs_other:
      state.segments = Part::elsewhere;
      break;
    case VcpuEvent::regs_reset:
      state.rip = Part::at_vector;
      break;
    case VcpuEvent::regs_other:
      state.rip = Part::elsewhere;
      break;
    case VcpuEvent::mp_state:
      state.mp_state = true;
      break;
    case VcpuEvent::pmu_zeroed:
      state.pmu = std::max(state.pmu, PmuWrites::zeroed);
      break;
    case VcpuEvent::pmu_control_zeroed:
      state.pmu = std::max(state.pmu, PmuWrites::control_zeroed);
      break;
    case VcpuEvent::pmu_values:
      state.pmu = PmuWrites::values;
      break;
  }
  if (state.segments == Part::unwritten || state.rip == Part::unwritten || !state.mp_state)
    return state;
  const bool at_vector = state.segments == Part::at_vector && state.rip == Part::at_vector;
  return {.ran = state.ran,
          .load = at_vector ? Load::reset_state : Load::other_state,
          .pmu = state.pmu};
}

ResetAction ResetDetector::on(VcpuEvent event, ResetRule rule) noexcept {
  uint64_t before = state_.load(std::memory_order_relaxed);
  ResetState state;
  do {
    state = std::bit_cast<ResetState>(before);
    // acq_rel: what one thread wrote to the vCPU happened before another one's reset of it
  } while (!state_.compare_exchange_weak(before, std::bit_cast<uint64_t>(after(state, event)),
                                         std::memory_order_acq_rel, std::memory_order_relaxed));
  if (event == VcpuEvent::run) return found_by_run(state, rule);
  if (event == VcpuEvent::cpuid && !state.ran && state.pmu == PmuWrites::none)
    return ResetAction::reset_created;
  return ResetAction::none;
}

const char* reset_action_name(ResetAction action) noexcept {
  static constexpr std::array<const char*, 6> kNames{"none",  "creation", "strong",
                                                     "broad", "repair",   "yield"};
  // cppcheck-suppress CastIntegerToAddressAtReturn ; it is an array of strings
  return kNames[static_cast<std::size_t>(action)];
}

}  // namespace host_preload
