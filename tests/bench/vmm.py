# SPDX-License-Identifier: MIT
"""What the preload host costs an unmodified QEMU: by the programs of tests/e2e, and from its start
to the firmware's first line."""

import os
import pathlib
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
START_ROUNDS, QUICK_START_ROUNDS = 41, 2


def need_qemu(options):
    need_program(options.qemu)
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        raise Missing("/dev/kvm cannot be opened")


# ---- instructions --------------------------------------------------------------------------------


def ioctl_rows(options):
    """Of a call of ioctl, by callgrind."""
    limits = dict(ioctl_cost.LIMITS)
    rows = []
    for kind, what in (("foreign", "an ioctl that is not KVM's"), ("run", "KVM_RUN")):
        row = Row("preload", f"instructions added to {what}", goal=f"<= {limits[kind]}", exact=True)
        rows.append(row)
        try:
            need_program("valgrind")
            without, with_ = (
                ioctl_cost.per_call(options.build_dir / "tests/e2e/ioctl_cost", kind, environment)
                for environment in ({}, preload_environment(options)))
            if without is None or with_ is None:
                raise Missing("KVM cannot do it here")
            row.value, row.note = round(with_ - without, 1), f"{without:.0f} without"
        except Missing as missing:
            row.skipped = str(missing)
    return rows


def preload_environment(options):
    return {"LD_PRELOAD": str(options.build_dir / "host_preload/libvmm_preload.so"),
            "VMM_PLUGINS": str(options.plugin)}


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


def start_row(options, what, start, goal="", why=""):
    row = Row("qemu", what, "QEMU alone", goal=goal)
    rounds = QUICK_START_ROUNDS if options.quick else START_ROUNDS
    alone = ((), {})
    try:
        need_qemu(options)
        seconds_to_first_line(options, *start)  # files into the page cache
        measured = []
        for _ in range(rounds):
            # alone before and after: a drift cancels out
            first, here, last = (seconds_to_first_line(options, *each)
                                 for each in (alone, start, alone))
            measured.append((first, last, here))
        row = paired(row.part, row.what, row.against, measured, goal=goal, why=why)
        row.note = ", ".join(f"{statistics.median(each[index] for each in measured) * 1e3:.1f} ms"
                             for index in (2, 0))
    except Missing as missing:
        row.skipped = str(missing)
    return row


def start_rows(options):
    """The last of them is the least that a plugin in C++ can cost a VMM in C: its library."""
    vmm_run = options.build_dir / "host_preload/vmm-run"
    return [
        start_row(options, "QEMU's start to the firmware's first line, by vmm-run",
                  ((vmm_run, "--plugin", options.plugin, "--"), {}), "<= 1.02",
                  "one more program starts, which loads the plugin to check it"),
        start_row(options, "the same, by LD_PRELOAD and VMM_PLUGINS",
                  ((), preload_environment(options)), "<= 1.02",
                  "the plugin and its libraries are loaded, and linked in a process of many libraries"),
        start_row(options, "the same with the C++ library alone preloaded",
                  ((), {"LD_PRELOAD": "libstdc++.so.6"})),
    ]
