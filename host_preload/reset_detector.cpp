// SPDX-License-Identifier: MIT
#include "host_preload/reset_detector.hpp"

#include <array>

namespace host_preload {

/// What is remembered of a vCPU. kRan: it ran since it was created or last reset. The rest is of
/// one window, the time between two KVM_RUN.
struct ResetDetector::Bits {
  enum : uint32_t {
    ran = kRan,
    sregs = 1u << 1,
    sregs_at_vector = 1u << 2,
    regs = 1u << 3,
    regs_at_vector = 1u << 4,
    mp_state = 1u << 5,
    pmu = 1u << 6,
    pmu_control_zero = 1u << 7,
    pmu_values = 1u << 8,
    all_at_vector = sregs_at_vector | regs_at_vector | mp_state,
    all_written = sregs | regs | mp_state,
  };

  struct Effect {
    uint32_t cleared;
    uint32_t set;
  };

  struct Step {
    uint32_t state;
    ResetAction action;
  };

  static constexpr std::array<Effect, kVcpuEvents> kEffects{{
      {~0u, ran},                            // run
      {0, sregs | sregs_at_vector},          // sregs_reset
      {sregs_at_vector, sregs},              // sregs_other
      {0, regs | regs_at_vector},            // regs_reset
      {regs_at_vector, regs},                // regs_other
      {0, mp_state},                         // mp_state
      {0, pmu},                              // pmu_zeroed
      {0, pmu | pmu_control_zero},           // pmu_control_zeroed
      {pmu_control_zero, pmu | pmu_values},  // pmu_values
  }};

  static constexpr bool has(uint32_t state, uint32_t all_of) { return (state & all_of) == all_of; }

  static Step step(uint32_t before, VcpuEvent event, ResetRule rule) noexcept {
    const Effect& effect = kEffects[static_cast<std::size_t>(event)];
    const uint32_t after = (before & ~effect.cleared) | effect.set;
    // the window that the broad rule judges is the one that this KVM_RUN ends
    const uint32_t window = event == VcpuEvent::run ? before : after;
    const bool broad = rule == ResetRule::broad && has(window, ran | all_written) &&
                       (window & pmu) == 0 &&
                       (event == VcpuEvent::run || event == VcpuEvent::mp_state);
    if (event == VcpuEvent::run)
      return {after, broad ? ResetAction::reset_broad : ResetAction::none};
    if (has(after, ran | all_at_vector))
      return {after & ~uint32_t{ran | pmu_control_zero},
              (after & pmu_values) != 0 ? ResetAction::yield : ResetAction::reset_strong};
    if (has(after, all_at_vector | pmu_control_zero) && (after & pmu_values) == 0)
      return {after & ~uint32_t{pmu_control_zero}, ResetAction::repair};
    if (broad) return {after & ~uint32_t{ran}, ResetAction::reset_broad};
    return {after, ResetAction::none};
  }
};

ResetAction ResetDetector::on(VcpuEvent event, ResetRule rule) noexcept {
  uint32_t before = state_.load(std::memory_order_relaxed);
  Bits::Step step{};
  do {
    step = Bits::step(before, event, rule);
    // acq_rel: what one thread wrote to the vCPU happened before another one's reset of it
  } while (!state_.compare_exchange_weak(before, step.state, std::memory_order_acq_rel,
                                         std::memory_order_relaxed));
  return step.action;
}

const char* reset_action_name(ResetAction action) noexcept {
  static constexpr std::array<const char*, 5> kNames{"none", "strong", "broad", "repair", "yield"};
  // cppcheck-suppress CastIntegerToAddressAtReturn ; it is an array of strings
  return kNames[static_cast<std::size_t>(action)];
}

}  // namespace host_preload
