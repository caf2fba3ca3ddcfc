# SPDX-License-Identifier: MIT
"""What the preload host costs an unmodified QEMU: by the programs of tests/e2e, and from its start
to the firmware's first line."""

import dataclasses
import os
import pathlib
import random
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
import exit_rate  # noqa: E402
import ioctl_cost  # noqa: E402
from counts import Missing, need_program  # noqa: E402
from rows import Row, paired  # noqa: E402

# machines are made anew that often: two of a kind differ for as long as they live
EXIT_STARTS, EXIT_ROUNDS = 6, 12
# Two of QEMU's own ioctls wait for a tick of the kernel (KVM_IOEVENTFD, KVM_SET_USER_MEMORY_REGION),
# and so does the end of the machine before. What takes a little longer costs a whole tick, or nothing:
# each start is at another time between two ticks, and a round is the mean of many.
START_ROUNDS, STARTS_A_ROUND = 50, 10
QUICK_START_ROUNDS, QUICK_STARTS_A_ROUND = 2, 1
TICK = 0.004  # of CONFIG_HZ=250


def need_qemu(options):
    need_program(options.qemu)
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        raise Missing("/dev/kvm cannot be opened")


# ---- instructions --------------------------------------------------------------------------------


def ioctl_rows(options):
    """Of a call of ioctl, by callgrind."""
    limits = dict(ioctl_cost.LIMITS)
    preloaded = preload_environment(options.build_dir / "host_preload", options.plugin)
    rows = []
    for kind, what in (("foreign", "an ioctl that is not KVM's"), ("run", "KVM_RUN")):
        row = Row("preload", f"instructions added to {what}", goal=f"<= {limits[kind]}", exact=True)
        rows.append(row)
        try:
            need_program("valgrind")
            without, with_ = (
                ioctl_cost.per_call(options.build_dir / "tests/e2e/ioctl_cost", kind, environment)
                for environment in ({}, preloaded))
            if without is None or with_ is None:
                raise Missing("KVM cannot do it here")
            row.value, row.note = round(with_ - without, 1), f"{without:.0f} without"
        except Missing as missing:
            row.skipped = str(missing)
    return rows


def preload_environment(folder, plugin):
    return {"LD_PRELOAD": str(folder / "libvmm_preload.so"), "VMM_PLUGINS": str(plugin)}


# ---- exits a second ------------------------------------------------------------------------------


def exit_rows(options):
    row = Row("preload", "exits a second under the preload host", "QEMU alone", goal=">= 0.99")
    try:
        need_qemu(options)
        options.preload = options.build_dir / "host_preload/libvmm_preload.so"
        options.guest = options.build_dir / "tests/e2e/guest.elf"
        rounds = []
        for _ in range(EXIT_STARTS):
            rounds += exit_rate.measure(options, exit_rate.VARIANTS[:3], EXIT_ROUNDS)
        if not rounds:
            raise Missing("this QEMU or this KVM does not count exits")
        row = paired(row.part, row.what, row.against, rounds, goal=row.goal,
                     note=f"{EXIT_STARTS} times new machines, {EXIT_ROUNDS} rounds each")
    except Missing as missing:
        row.skipped = str(missing)
    return [row]


# ---- start ---------------------------------------------------------------------------------------


def seconds_to_first_line(options, prefix, environment):
    """From the start of the program to the first byte of the firmware on its debug console."""
    command = [*prefix, options.qemu, "-accel", "kvm", "-machine", "pc", "-m", "64", "-nodefaults",
               "-display", "none", "-chardev", "stdio,id=firmware",
               "-device", "isa-debugcon,iobase=0x402,chardev=firmware"]
    time.sleep(random.uniform(0, TICK))
    begin = time.monotonic()
    with subprocess.Popen(command, env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            first = process.stdout.read(1)
            end = time.monotonic()
        finally:
            process.kill()
    if not first:
        raise Missing("no firmware's line on the debug console")
    return end - begin


@dataclasses.dataclass(frozen=True)
class Start:
    what: str
    prefix: tuple = ()
    environment: dict = dataclasses.field(default_factory=dict)
    goal: str = ""
    why: str = ""


def starts(options):
    """The last two are the least that a launcher, and a plugin that links the C++ library, can cost
    a VMM in C."""
    def by_vmm_run(folder, plugin):
        return (str(folder / "vmm-run"), "--plugin", str(plugin), "--")

    files = options.build_dir / "host_preload", options.plugin
    return (
        Start("QEMU's start to the firmware's first line, by vmm-run", by_vmm_run(*files),
              goal="<= 1.02", why="one more program starts"),
        Start("the same, by LD_PRELOAD and VMM_PLUGINS", environment=preload_environment(*files),
              goal="<= 1.02"),
        Start("by env(1), no plugin", ("env",)),
        Start("with the C++ library alone preloaded", environment={"LD_PRELOAD": "libstdc++.so.6"}),
    )


def measured_starts(options, compared):
    """Of each of `compared`: rounds of (alone, alone, so started), in seconds."""
    rounds, starts_a_round = ((QUICK_START_ROUNDS, QUICK_STARTS_A_ROUND) if options.quick
                              else (START_ROUNDS, STARTS_A_ROUND))
    turns = [Start("alone"), Start("alone again"), *compared]
    for turn in turns:
        seconds_to_first_line(options, turn.prefix, turn.environment)  # files into the page cache
    measured = [[] for _ in compared]
    for _ in range(rounds):
        times = {turn.what: [] for turn in turns}
        for _ in range(starts_a_round):
            for turn in random.sample(turns, len(turns)):
                times[turn.what].append(
                    seconds_to_first_line(options, turn.prefix, turn.environment))
        alone, again, *others = map(statistics.fmean, times.values())
        for rounds_of_one, other in zip(measured, others):
            rounds_of_one.append((alone, again, other))
    return measured


def start_rows(options):
    compared = starts(options)
    try:
        need_qemu(options)
        measured = measured_starts(options, compared)
    except Missing as missing:
        return [Row("qemu", start.what, "QEMU alone", goal=start.goal, skipped=str(missing))
                for start in compared]
    rows = []
    for start, rounds in zip(compared, measured):
        note = ", ".join(f"{statistics.median(each[index] for each in rounds) * 1e3:.1f} ms"
                         for index in (2, 0))
        rows.append(paired("qemu", start.what, "QEMU alone", rounds, goal=start.goal, why=start.why,
                           note=note))
    return rows
