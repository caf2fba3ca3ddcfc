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
    sregs_at_vector,
    sregs_elsewhere,
    rip_at_vector,
    rip_elsewhere,
    mp_state,
    pmu_zeros,
    pmu_zeros_with_global_ctl,
    pmu_values,
    // what came of the one before
    told,      ///< a reset, or one that was left to the VMM's own values
    repaired,  ///< GLOBAL_CTL alone
  };
  enum class Verdict : unsigned char { nothing, strong, broad, repair, yield };

  Verdict add(Event event, bool broad_rule) {
    events_.push_back(event);
    const Verdict verdict = judge(event, broad_rule);
    if (verdict == Verdict::repair)
      events_.push_back(Event::repaired);
    else if (verdict != Verdict::nothing)
      insert_told(event);
    return verdict;
  }

 private:
  using Events = std::vector<Event>;

  /// A reset that a KVM_RUN brings to light was before it.
  void insert_told(Event event) {
    events_.insert(event == Event::run ? events_.end() - 1 : events_.end(), Event::told);
  }

  /// Position behind the last of an event before `end`; 0: never.
  static std::size_t behind_last(const Events& events, Event event) {
    for (std::size_t i = events.size(); i > 0; --i)
      if (events[i - 1] == event) return i;
    return 0;
  }

  Verdict judge(Event event, bool broad_rule) const {
    Events before = events_;
    if (event == Event::run) before.pop_back();
    // the window: since the last KVM_RUN
    const Events window(
        before.begin() + static_cast<std::ptrdiff_t>(behind_last(before, Event::run)),
        before.end());
    const auto last = [&](Event what) { return behind_last(window, what); };
    const bool ran = behind_last(before, Event::run) > behind_last(before, Event::told);
    const bool sregs = last(Event::sregs_at_vector) > last(Event::sregs_elsewhere);
    const bool rip = last(Event::rip_at_vector) > last(Event::rip_elsewhere);
    const bool mp_state = last(Event::mp_state) > 0;
    const bool values = last(Event::pmu_values) > 0;
    const bool pmu =
        values || last(Event::pmu_zeros) > 0 || last(Event::pmu_zeros_with_global_ctl) > 0;
    const bool at_vector = sregs && rip && mp_state;
    if (event != Event::run && at_vector && ran) return values ? Verdict::yield : Verdict::strong;
    const bool global_ctl_zeroed =
        last(Event::pmu_zeros_with_global_ctl) >
        std::max({last(Event::pmu_values), last(Event::told), last(Event::repaired)});
    if (event != Event::run && at_vector && global_ctl_zeroed && !values) return Verdict::repair;
    const bool all_written =
        mp_state && std::max(last(Event::sregs_at_vector), last(Event::sregs_elsewhere)) > 0 &&
        std::max(last(Event::rip_at_vector), last(Event::rip_elsewhere)) > 0;
    if (broad_rule && ran && all_written && !pmu &&
        (event == Event::run || event == Event::mp_state))
      return Verdict::broad;
    return Verdict::nothing;
  }

  Events events_;
};

}  // namespace fuzz
