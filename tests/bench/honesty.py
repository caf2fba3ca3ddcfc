# SPDX-License-Identifier: MIT
"""Do the measurements see what they are there for? Each of planted_plugin.cpp's faults must make
its row miss the goal that the same plugin without it meets; a slower reset must raise the ratio."""

import contextlib
import os
import subprocess
import sys

import bench
import counts
import rows
import times

# what is planted, what measures it, the row that must tell
PLANTS = (
    ("ioctl", counts.traced_rows, "ioctls a reset"),
    ("system-call", counts.traced_rows, "other system calls a reset"),
    ("lock", counts.traced_rows, "futex calls of 1024 resets on 64 vCPUs from 8 threads"),
    ("instructions", counts.instruction_rows, "instructions of a reset into the host's batch"),
    ("cost-by-index", counts.instruction_rows, "instructions a reset, 1024 vCPUs"),
    ("allocation", counts.memory_rows, "allocations a reset"),
    ("lock", counts.memory_rows, "locks a reset"),
    ("memory", counts.memory_rows, "bytes that the plugin keeps of a vCPU"),
    ("vm-ioctls", counts.vm_created_rows, "ioctls of vm_created, KVM_PMU_CAP_DISABLE offered"),
    ("vm-ioctls", counts.vm_created_rows, "ioctls of vm_created, KVM_PMU_CAP_DISABLE not offered"),
)


@contextlib.contextmanager
def planted(name):
    os.environ["BENCH_PLANTED"] = name
    try:
        yield
    finally:
        del os.environ["BENCH_PLANTED"]


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


def measured(options, function, what):
    return next(row for row in function(options) if row.what == what)


def check_plants(check, options):
    for name, function, what in PLANTS:
        with planted(""):
            clean = measured(options, function, what)
        with planted(name):
            row = measured(options, function, what)
        if clean.skipped:
            print(f"SKIPPED: {name}: {clean.skipped}")
            continue
        check(f"{name}: {what}", clean.met is True and row.met is False,
              f"{clean.value:g}, planted {row.value:g}, goal {row.goal}")


def check_ratio(check, options):
    with planted(""):
        clean = times.simulated_ratio(options)
    with planted("ioctl"):
        slow = times.simulated_ratio(options)
    check("one more ioctl raises the ratio", slow > 1.3 * clean, f"{clean:.3f}, planted {slow:.3f}")


def check_program(check, words):
    """The exit status, and what is said of bad input."""
    def run(*more):
        return subprocess.run([sys.executable, "-B", bench.__file__, *words, *more],
                              capture_output=True, text=True)
    with planted("vm-ioctls"):
        check("a count that misses its goal is an error",
              run("--part", "vm_created", "--json", os.devnull).returncode == 1)
    with planted(""):
        check("and is none where it does not",
              run("--part", "vm_created", "--json", os.devnull).returncode == 0)
    bad = run("--part", "nothing")
    check("bad input names option, value and what is allowed",
          bad.returncode == 2 and all(word in bad.stderr for word in
                                      ("--part", "'nothing'", *bench.PARTS)), bad.stderr[-120:])


def main():
    check = Checks()
    words = [*sys.argv[1:], "--quick"]
    options = bench.arguments(words)
    check_arithmetic(check)
    check_trace(check)
    check_plants(check, options)
    check_ratio(check, options)
    check_program(check, words)
    return 1 if check.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
