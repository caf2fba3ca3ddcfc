// SPDX-License-Identifier: MIT
//
// Is this thread doing the preload host's own work? What a plugin or the loader calls meanwhile is
// not the VMM's, and passes.
#pragma once

namespace host_preload {

class Inside {
 public:
  Inside() noexcept { ++depth; }
  ~Inside() { --depth; }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;

  static bool now() noexcept { return depth != 0; }

 private:
  // initial-exec, so that reading it allocates nothing
  __attribute__((tls_model("initial-exec"))) static constinit thread_local int depth;
};

}  // namespace host_preload
