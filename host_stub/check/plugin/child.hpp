// SPDX-License-Identifier: MIT
//
// One check in a child process with a time limit. Answers: how did it end, in words. Whatever the
// code under test does, the parent goes on: a crash, an exit, a stop and a hang are ends like
// others.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "check/plugin/findings.hpp"

namespace host_stub::validate {

/// How a child ended.
struct ChildEnd {
  enum Kind : uint8_t {
    finished,   ///< came to the end of its check
    exited,     ///< somebody ended the process
    killed,     ///< by a signal
    stopped,    ///< stopped by a signal, and killed then
    timed_out,  ///< and killed then
    not_made,   ///< fork failed
  };
  Kind kind = finished;
  int detail = 0;     ///< exit status, signal or errno
  std::string words;  ///< "killed by SIGSEGV in vcpu_reset"; "" when finished
};

/// Runs `check` in a child of its own process group, whose standard input and output are
/// /dev/null, and waits for it; its whole group is killed at the end. To be called by a process
/// with one thread. SIGCHLD must have its default action.
ChildEnd run_in_child(Findings& findings, std::chrono::milliseconds limit,
                      const std::function<void()>& check);

}  // namespace host_stub::validate
