/* SPDX-License-Identifier: MIT
 *
 * sigabbrev_np, glibc 2.32: "SEGV" for SIGSEGV, NULL for a number that has no name. */
#include <signal.h>
#include <stddef.h>

const char* __wrap_sigabbrev_np(int number);
const char* __wrap_sigabbrev_np(int number) {
  static const struct {
    int number;
    const char* name;
  } names[] = {
      {SIGHUP, "HUP"},   {SIGINT, "INT"},       {SIGQUIT, "QUIT"}, {SIGILL, "ILL"},
      {SIGTRAP, "TRAP"}, {SIGABRT, "ABRT"},     {SIGBUS, "BUS"},   {SIGFPE, "FPE"},
      {SIGKILL, "KILL"}, {SIGUSR1, "USR1"},     {SIGSEGV, "SEGV"}, {SIGUSR2, "USR2"},
      {SIGPIPE, "PIPE"}, {SIGALRM, "ALRM"},     {SIGTERM, "TERM"}, {SIGSTKFLT, "STKFLT"},
      {SIGCHLD, "CHLD"}, {SIGCONT, "CONT"},     {SIGSTOP, "STOP"}, {SIGTSTP, "TSTP"},
      {SIGTTIN, "TTIN"}, {SIGTTOU, "TTOU"},     {SIGURG, "URG"},   {SIGXCPU, "XCPU"},
      {SIGXFSZ, "XFSZ"}, {SIGVTALRM, "VTALRM"}, {SIGPROF, "PROF"}, {SIGWINCH, "WINCH"},
      {SIGIO, "POLL"},   {SIGPWR, "PWR"},       {SIGSYS, "SYS"},
  };
  for (size_t i = 0; i < sizeof names / sizeof *names; ++i)
    if (names[i].number == number) return names[i].name;
  return NULL;
}
