// SPDX-License-Identifier: MIT
//
// Which resets must the preload host tell? The rules of host_preload/README.md, read from a vCPU's
// whole history, event by event, with nothing remembered between two questions: the opposite of the
// detector that is tested against it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

namespace fuzz {

class ResetHistory {
 public:
  /// In the terms of VMMs, not of the detector.
  enum class Event : unsigned char {
    run,
    cpuid,
    sregs_at_vector,
    sregs_elsewhere,
    rip_at_vector,
    rip_elsewhere,
    mp_state,
    pmu_zeros,
    pmu_zeros_with_global_ctl,
    pmu_values,
  };
  enum class Verdict : unsigned char { nothing, creation, strong, broad, repair, yield };

  Verdict add(Event event, bool broad_rule) {
    const Verdict verdict = judge(event, broad_rule);
    events_.push_back(event);
    return verdict;
  }

 private:
  using Events = std::vector<Event>;

  static bool any(const Events& events, Event event) {
    return std::find(events.begin(), events.end(), event) != events.end();
  }

  /// What has happened since the last KVM_RUN.
  Events window() const {
    const auto last = std::find(events_.rbegin(), events_.rend(), Event::run);
    return {last.base(), events_.end()};
  }

  enum class Where : unsigned char { nowhere, vector, elsewhere };

  /// Where the last of the loads points: each takes as many events as it needs to have all three
  /// parts, and of each part the last one counts.
  static Where last_load(const Events& events) {
    Where load = Where::nowhere;
    for (auto begin = events.begin(); begin != events.end();) {
      auto end = begin;
      while (end != events.end() && where({begin, end}) == Where::nowhere) ++end;
      if (const Where its = where({begin, end}); its != Where::nowhere) load = its;
      begin = end;
    }
    return load;
  }
  static Where where(const Events& load) {
    const auto last = [&](Event what) {
      return load.rend() - std::find(load.rbegin(), load.rend(), what);
    };
    const auto sregs = std::max(last(Event::sregs_at_vector), last(Event::sregs_elsewhere));
    const auto rip = std::max(last(Event::rip_at_vector), last(Event::rip_elsewhere));
    if (sregs == 0 || rip == 0 || !any(load, Event::mp_state)) return Where::nowhere;
    return sregs == last(Event::sregs_at_vector) && rip == last(Event::rip_at_vector)
               ? Where::vector
               : Where::elsewhere;
  }

  Verdict judge(Event event, bool broad_rule) const {
    const Events now = window();
    const bool ran = any(events_, Event::run);
    const bool values = any(now, Event::pmu_values);
    const bool control = any(now, Event::pmu_zeros_with_global_ctl);
    const bool pmu = values || control || any(now, Event::pmu_zeros);
    if (event == Event::cpuid) return ran || pmu ? Verdict::nothing : Verdict::creation;
    if (event != Event::run) return Verdict::nothing;
    const Where load = last_load(now);
    if (load == Where::vector && ran) return values ? Verdict::yield : Verdict::strong;
    if (load == Where::vector && control && !values) return Verdict::repair;
    if (load == Where::elsewhere && ran && broad_rule && !pmu) return Verdict::broad;
    return Verdict::nothing;
  }

  Events events_;
};

}  // namespace fuzz
