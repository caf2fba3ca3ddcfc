// SPDX-License-Identifier: MIT
#include "check/plugin/child.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

namespace host_stub::validate {
namespace {

using Clock = std::chrono::steady_clock;

/// A signal's name; those of real time have none.
std::string signal_name(int number) {
  const char* name = sigabbrev_np(number);
  return name != nullptr ? fmt::format("SIG{}", name) : fmt::format("signal {}", number);
}

/// With the C++ library inside of this program, its unwinder has tables that are filled at its
/// first throw; it aborts when it meets an exception of a plugin's own C++ library before that.
void ready_to_catch() {
  try {
    throw 0;
  } catch (int) {
  }
}

[[noreturn]] void be_the_child(Findings& findings, const std::function<void()>& check, pid_t parent,
                               const sigset_t& mask) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(0);
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  dup2(null, STDIN_FILENO);
  dup2(null, STDOUT_FILENO);
  if (null > STDERR_FILENO) close(null);
  sigprocmask(SIG_SETMASK, &mask, nullptr);
  ready_to_catch();
  try {
    check();
    findings.finish();
  } catch (...) {
    // of this program's own making, since calls of the plugin catch theirs
    _exit(1);
  }
  _exit(0);
}

/// Waits for a change of the child's state; SIGCHLD is blocked. False: the time is over.
bool wait_for(pid_t child, Clock::time_point deadline, int& status) {
  sigset_t sigchld;
  sigemptyset(&sigchld);
  sigaddset(&sigchld, SIGCHLD);
  while (true) {
    if (waitpid(child, &status, WNOHANG | WUNTRACED) == child) return true;
    const auto left = deadline - Clock::now();
    if (left <= Clock::duration::zero()) return false;
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
    const auto rest = std::chrono::duration_cast<std::chrono::nanoseconds>(left - seconds);
    const timespec limit{static_cast<time_t>(seconds.count()), static_cast<long>(rest.count())};
    sigtimedwait(&sigchld, nullptr, &limit);
  }
}

std::string place(const std::string& function) {
  return function.empty() ? "outside of the plugin's functions" : "in " + function;
}

ChildEnd end_of(const Findings& findings, int status) {
  const std::string where = place(findings.function());
  if (WIFSTOPPED(status))
    return {ChildEnd::stopped, WSTOPSIG(status),
            fmt::format("stopped by {} {}", signal_name(WSTOPSIG(status)), where)};
  if (WIFSIGNALED(status))
    return {ChildEnd::killed, WTERMSIG(status),
            fmt::format("killed by {} {}", signal_name(WTERMSIG(status)), where)};
  if (findings.finished()) return {};
  return {ChildEnd::exited, WEXITSTATUS(status),
          fmt::format("ended the process with exit status {} {}", WEXITSTATUS(status), where)};
}

}  // namespace

ChildEnd run_in_child(Findings& findings, std::chrono::milliseconds limit,
                      const std::function<void()>& check) {
  sigset_t sigchld, before;
  sigemptyset(&sigchld);
  sigaddset(&sigchld, SIGCHLD);
  sigprocmask(SIG_BLOCK, &sigchld, &before);
  // who started us may have had it ignored: then children end without a trace
  struct sigaction by_default {};
  struct sigaction disposition {};
  by_default.sa_handler = SIG_DFL;
  sigaction(SIGCHLD, &by_default, &disposition);
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child == 0) be_the_child(findings, check, parent, before);
  ChildEnd end{ChildEnd::not_made, errno, fmt::format("fork failed: {}", std::strerror(errno))};
  if (child > 0) {
    setpgid(child, child);  // whoever comes first; then the group can be killed
    int status = 0;
    const bool ended = wait_for(child, Clock::now() + limit, status);
    if (ended)
      end = end_of(findings, status);
    else
      end = {ChildEnd::timed_out, 0,
             fmt::format("did not come back within {} ms {}", limit.count(),
                         place(findings.function()))};
    // also what it may have started
    kill(-child, SIGKILL);
    if (!ended || WIFSTOPPED(status)) {
      kill(child, SIGKILL);
      while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
      }
    }
  }
  sigaction(SIGCHLD, &disposition, nullptr);
  sigprocmask(SIG_SETMASK, &before, nullptr);
  return end;
}

}  // namespace host_stub::validate
