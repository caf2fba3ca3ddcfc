// SPDX-License-Identifier: MIT
#include "sim/perf_counter.hpp"

#include <limits>

#include "sim/pmu_msrs.hpp"

namespace host_stub {

void PerfCounter::write_counter(uint64_t value) {
  touched_ = true;
  counter_ = value & kCounterMask;
}

void PerfCounter::write_selector(uint64_t value) {
  touched_ = true;
  if (value == selector_) return;
  selector_ = value;
  pending_ = true;
}

void PerfCounter::reprogram(bool enabled, Backing backing) {
  pending_ = false;
  const bool wanted = enabled && (selector_ & kSelectorEn) != 0;
  counting_ = wanted && backing != Backing::starved;
  if (wanted && backing != Backing::hardware) has_event_ = true;
}

void PerfCounter::release_if_idle() {
  if (!touched_ && (selector_ & kSelectorEn) == 0) has_event_ = false;
  touched_ = false;
}

uint64_t PerfCounter::cycles_to_overflow() const {
  // OS and USR are not told apart: the guest's code is both
  const bool filtered_out = (selector_ & (kSelectorOs | kSelectorUsr)) == 0;
  if (!counting_ || filtered_out) return std::numeric_limits<uint64_t>::max();
  return kCounterMask + 1 - counter_;
}

bool PerfCounter::advance(uint64_t cycles) {
  const uint64_t left = cycles_to_overflow();
  if (left == std::numeric_limits<uint64_t>::max()) return false;
  counter_ = (counter_ + cycles) & kCounterMask;
  return cycles >= left;
}

}  // namespace host_stub
