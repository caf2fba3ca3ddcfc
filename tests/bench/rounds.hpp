// SPDX-License-Identifier: MIT
//
// Two things compared in one run. A round is a short window of the one, a window of the other, and
// one of the first again: what else the machine does meets both alike, and a drift cancels out. The
// result is the median of the rounds' ratios and its quartiles; the ratio of the first thing to
// itself, from the same rounds, says what this machine can tell at all.
#pragma once

#include <benchmark/benchmark.h>

#include <functional>
#include <vector>

namespace bench {

/// The CPU time of the calling thread, in seconds. It stands still while other work has the CPU.
double thread_seconds();

/// Does something once and says how long it took, in seconds.
using Window = std::function<double()>;

/// `calls` calls of `call` (of one argument, 0 .. calls - 1), timed together on this thread.
template <typename Call>
Window window(int calls, Call call) {
  return [calls, call]() mutable {
    const double begin = thread_seconds();
    for (int i = 0; i < calls; ++i) call(i);
    return thread_seconds() - begin;
  };
}

/// Runs a round an iteration of `state`. Its time is that of `measured`'s windows; its counters:
///   ratio, ratio_q1, ratio_q3        measured / base, median and quartiles
///   control, control_q1, control_q3  base / base
///   base_ns, measured_ns             medians, of one of `calls` calls
void compare(benchmark::State& state, int calls, const Window& base, const Window& measured);

}  // namespace bench
