# SPDX-License-Identifier: MIT
"""How many instructions does the preload host add to one ioctl call? Counted by valgrind's
callgrind on ioctl_cost.c: (instructions of MANY calls - those of FEW) / (MANY - FEW), so that
start-up and end cancel out; with the preload host minus without it. Counts are exact and the same
on each run, so they have limits."""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys

FEW, MANY = 1000, 11000
CANNOT = 77  # exit status of ioctl_cost where KVM cannot do it

# kind of call, most instructions that may be added
LIMITS = (
    ("foreign", 25),
    ("run", 120),
)


def skip(reason):
    print(f"SKIPPED: {reason}")
    sys.exit(77)


def instructions(program, kind, calls, environment):
    result = subprocess.run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program, kind,
         str(calls)], env={**os.environ, **environment}, capture_output=True, text=True)
    if result.returncode == CANNOT:
        return None
    counted = re.search(r"Collected : (\d+)", result.stderr)
    if result.returncode != 0 or not counted:
        sys.exit(f"{kind}: status {result.returncode}\n{result.stderr}")
    return int(counted[1])


def per_call(program, kind, environment):
    few = instructions(program, kind, FEW, environment)
    if few is None:
        return None
    return (instructions(program, kind, MANY, environment) - few) / (MANY - FEW)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("program", "preload", "plugin"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        skip("no valgrind")
    with_preload = {"LD_PRELOAD": str(options.preload), "VMM_PLUGINS": str(options.plugin)}
    print(f"{'ioctl':<10} {'without':>8} {'with':>8} {'added':>8} {'limit':>8}  instructions")
    wrong = 0
    for kind, limit in LIMITS:
        without, with_ = (per_call(options.program, kind, e) for e in ({}, with_preload))
        if without is None or with_ is None:
            print(f"{kind:<10} not here: KVM cannot do it")
            continue
        added = with_ - without
        wrong += added > limit
        print(f"{kind:<10} {without:>8.1f} {with_:>8.1f} {added:>8.1f} {limit:>8}"
              f"{'   TOO MANY' if added > limit else ''}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
