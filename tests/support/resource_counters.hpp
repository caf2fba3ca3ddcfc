// SPDX-License-Identifier: MIT
//
// What code under test takes: allocations, bytes, locks. A program that is linked with
// resource_counters.cpp and has ENABLE_EXPORTS brings its own malloc and pthread_mutex_lock, which
// stand before the C library's for every library of the process, a loaded plugin included. With a
// sanitizer (sanitizers.hpp) its allocator stays and nothing is counted.
#pragma once

#include <cstddef>

/// Counts on the thread that has it armed, and lets that many allocations succeed. A realloc is an
/// allocation, and no free; its bytes are those of the new size.
struct ResourceCounters {
  bool armed = false;
  unsigned left = ~0u;
  unsigned allocations = 0;
  unsigned frees = 0;
  unsigned locks = 0;
  std::size_t bytes = 0;  ///< asked for
};
extern constinit thread_local ResourceCounters counters;
