// SPDX-License-Identifier: MIT
//
// The functions that a loaded plugin imports, taken over one by one: its own table of imports is
// rewritten, so nothing else in the process notices. Answers what no system call filter sees: an
// allocation that found room, a lock that was free, a throw; and what the plugin does when memory
// runs out.
//
// Seen are the plugin's own calls, also those of library code compiled into it; not those that a
// library which it needs makes for it.
#pragma once

#include <cstdint>

#include "check/plugin/findings.hpp"

namespace host_stub::validate {

enum class TrapKind : uint8_t {
  all,          ///< functions that allocate, free, throw, lock or print
  allocations,  ///< those that allocate
};

/// From now on a call of such a function out of the object that `address` lies in is noted as a
/// failure of `rule` and ends the process. Result: how many such functions it imports; negative:
/// its imports cannot be read or written.
int trap_imports(const void* address, TrapKind kind, Findings& findings, unsigned rule);

/// From now on the object's allocations fail after the first `allocations` (malloc and calloc give
/// NULL, operator new throws std::bad_alloc). Result as above.
int starve_imports(const void* address, uint32_t allocations);
/// Ends it, and says how many allocations failed.
uint32_t feed_imports();

}  // namespace host_stub::validate
