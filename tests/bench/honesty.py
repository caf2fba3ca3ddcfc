# SPDX-License-Identifier: MIT
"""Do the measurements compute what they say: ratios, noise, goals, and the calls in a trace?"""

import subprocess
import sys

import bench
import counts
import rows
import times


class Checks:
    def __init__(self):
        self.wrong = 0

    def __call__(self, what, good, seen=""):
        self.wrong += not good
        print(f"{'ok   ' if good else 'WRONG'} {what}{f': {seen}' if seen != '' else ''}")


def check_arithmetic(check):
    steady = rows.paired("p", "w", "a", [(1.0, 1.0, 1.1)] * 9, goal="<= 1.03")
    check("a tenth more is a ratio of 1.1", abs(steady.value - 1.1) < 1e-9, steady.value)
    check("and misses a goal of 1.03", steady.met is False and not steady.within_noise)
    drifting = rows.paired("p", "w", "a", [(1.0, 1.4, 1.2), (1.4, 1.0, 1.2)] * 5, goal="<= 1.03")
    check("a drift cancels out", abs(drifting.value - 1) < 1e-9, drifting.value)
    slow = rows.paired("p", "w", "a", [(1.0, 1.1, 1.5)] * 9, goal="<= 1.03", why="because")
    check("what is more than the noise has its reason said", "because" in slow.cells()[-1])
    unsure = rows.paired("p", "w", "a", [(1.0, 1.4, 1.25), (1.0, 0.8, 0.98)] * 5, goal="<= 1.03")
    check("a miss within the noise is said to be one",
          unsure.met is False and unsure.within_noise, unsure.cells()[-1])
    timed = times.row_of({"ratio": 1.2, "ratio_q1": 1.1, "ratio_q3": 1.3, "control": 1.0,
                          "control_q1": 0.8, "control_q3": 1.4, "iterations": 4,
                          "measured_ns": 120, "base_ns": 100}, "p", "w", "a", "<= 1.03")
    check("a row of bench_times knows its rounds, and tells a miss within the noise",
          timed.rounds == 4 and timed.within_noise, timed.cells()[-1])
    bare = rows.Row("p", "w", value=1.2, control=(0.8, 1.0, 1.4), goal="<= 1.03")
    check("a miss in an unknown number of rounds is a miss", bare.cells()[-1] == "no",
          bare.cells()[-1])
    for goal, value, met in (("<= 1", 1, True), ("<= 1", 1.1, False), (">= 1", 1, True),
                             (">= 1", 0.9, False), ("= 1", 1, True), ("= 1", 2, False)):
        check(f"{value} is {'good' if met else 'bad'} for '{goal}'",
              rows.Row("p", "w", value=value, goal=goal).met is met)
    check("without a goal nothing is met", rows.Row("p", "w", value=1).met is None)


def check_trace(check):
    calls = counts.system_calls("\n".join((
        '1 ioctl(5, KVM_RUN, 0) = 0', '1 write(-1, "begin", 5) = -1 EBADF (Bad file descriptor)',
        '1 ioctl(5, KVM_SET_MSRS, 0x7f <unfinished ...>', '2 futex(0x1, FUTEX_WAIT, 1) = 0',
        '1 <... ioctl resumed>)            = 8', '1 getppid()   = 7',
        '1 write(-1, "end", 3 <unfinished ...>', '1 futex(0x1, FUTEX_WAKE, 1) = 0')))
    check("a trace is counted from begin to end", calls == {"KVM_SET_MSRS": 1, "getppid": 1}, calls)


def check_bad_input(check):
    bad = subprocess.run([sys.executable, "-B", bench.__file__, *sys.argv[1:], "--part", "nothing"],
                         capture_output=True, text=True)
    check("bad input names option, value and what is allowed",
          bad.returncode == 2 and all(word in bad.stderr for word in
                                      ("--part", "'nothing'", *bench.PARTS)), bad.stderr[-120:])


def main():
    check = Checks()
    check_arithmetic(check)
    check_trace(check)
    check_bad_input(check)
    return 1 if check.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
