// SPDX-License-Identifier: MIT
#include "rounds.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <ctime>
#include <string>

namespace bench {
namespace {

struct Quartiles {
  double low, middle, high;
};

/// Linear between the neighbours, as most tools do it. `values` is not empty.
Quartiles quartiles(std::vector<double> values) {
  std::ranges::sort(values);
  const auto at = [&](double part) {
    const double position = part * static_cast<double>(values.size() - 1);
    const auto below = static_cast<std::size_t>(position);
    const std::size_t above = std::min(below + 1, values.size() - 1);
    return std::lerp(values[below], values[above], position - static_cast<double>(below));
  };
  return {at(0.25), at(0.5), at(0.75)};
}

void put(benchmark::State& state, const std::string& name, const std::vector<double>& values) {
  const Quartiles found = quartiles(values);
  state.counters[name] = found.middle;
  state.counters[name + "_q1"] = found.low;
  state.counters[name + "_q3"] = found.high;
}

}  // namespace

double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

void compare(benchmark::State& state, int calls, const Window& base, const Window& measured) {
  std::vector<double> ratios, controls, bases, times;
  for (int warm_up = 0; warm_up < 2; ++warm_up) {
    base();
    measured();
  }
  for ([[maybe_unused]] auto round : state) {
    const double before = base();
    const double here = measured();
    const double after = base();
    ratios.push_back(2 * here / (before + after));
    controls.push_back(after / before);
    bases.push_back((before + after) / 2);
    times.push_back(here);
    state.SetIterationTime(here);
  }
  put(state, "ratio", ratios);
  put(state, "control", controls);
  state.counters["base_ns"] = quartiles(bases).middle * 1e9 / calls;
  state.counters["measured_ns"] = quartiles(times).middle * 1e9 / calls;
}

}  // namespace bench
