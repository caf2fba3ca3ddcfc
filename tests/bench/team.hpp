// SPDX-License-Identifier: MIT
//
// Threads that reset the vCPUs of a VM at the same time, each its own, as a VMM's do.
#pragma once

#include <barrier>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "rounds.hpp"

namespace bench {

/// Binds the calling thread to the `number`-th CPU that the process may use, counted around.
void pin_to_cpu(uint32_t number);

class Team {
 public:
  explicit Team(uint32_t threads)
      : threads_(threads), begin_(threads + 1), end_(threads + 1), seconds_(threads) {
    for (uint32_t i = 0; i < threads; ++i)
      workers_.emplace_back([this, i] {
        pin_to_cpu(i);
        while (true) {
          begin_.arrive_and_wait();
          if (stop_) return;
          const double before = thread_seconds();
          work_(i);
          seconds_[i] = thread_seconds() - before;
          end_.arrive_and_wait();
        }
      });
  }
  ~Team() {
    stop_ = true;
    begin_.arrive_and_wait();
  }
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  uint32_t threads() const { return threads_; }

  /// work(0) .. work(threads - 1) at once; the CPU time of all together, in seconds.
  double run(std::function<void(uint32_t thread)> work) {
    work_ = std::move(work);
    begin_.arrive_and_wait();
    end_.arrive_and_wait();
    work_ = nullptr;
    double sum = 0;
    for (const double seconds : seconds_) sum += seconds;
    return sum;
  }

  /// `calls` calls of `call` (of a thread's number and a vCPU's index) in all: each thread walks
  /// over its own share of the vCPUs, again and again. `calls` is a multiple of `vcpus` and of the
  /// threads.
  template <typename Call>
  Window window(uint32_t vcpus, int calls, Call call) {
    return [this, vcpus, calls, call] {
      return run([&](uint32_t thread) {
        uint32_t vcpu = thread;
        for (uint32_t left = static_cast<uint32_t>(calls) / threads_; left > 0; --left) {
          call(thread, vcpu);
          vcpu += threads_;
          if (vcpu >= vcpus) vcpu = thread;
        }
      });
    };
  }

 private:
  const uint32_t threads_;
  std::barrier<> begin_, end_;
  bool stop_ = false;
  std::function<void(uint32_t)> work_;
  std::vector<double> seconds_;
  std::vector<std::jthread> workers_;
};

}  // namespace bench
