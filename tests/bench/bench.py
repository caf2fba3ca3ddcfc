# SPDX-License-Identifier: MIT
"""Runs all measurements, prints one table, writes JSON. The exit status is 1 if a count (which is
the same on each run) misses its goal; a time never is an error, it belongs to the machine."""

import argparse
import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys

import counts
import rows
import times
import vmm

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

# part: the functions that measure it, and whether the quick form has it
PARTS = {
    "reset": ((times.reset_rows, counts.traced_rows, counts.instruction_rows, counts.memory_rows),
              True),
    "scale": ((times.scale_rows,), True),
    "vm_created": ((counts.vm_created_rows,), True),
    "load": ((times.load_rows, counts.size_rows), True),
    "preload": ((vmm.ioctl_rows, vmm.exit_rows), False),  # tests of their own (tests/e2e)
    "qemu": ((vmm.start_rows,), True),
}


def arguments(words=None):
    parser = argparse.ArgumentParser(prog="tests/bench/run.sh", description=__doc__)
    parser.add_argument("--part", action="append", choices=list(PARTS), metavar="PART",
                        help=f"only this one ({', '.join(PARTS)}); may be repeated")
    parser.add_argument("--quick", action="store_true",
                        help="few rounds: for the counts; the times then say little")
    parser.add_argument("--markdown", action="store_true", help="the table as Markdown")
    parser.add_argument("--plugin", type=pathlib.Path, help="another file than the built svm_pmu.so")
    parser.add_argument("--qemu", default="qemu-system-x86_64")
    parser.add_argument("--json", type=pathlib.Path, help="default: build/bench.json")
    parser.add_argument("--build-dir", type=pathlib.Path, help="default: build/release")
    parser.add_argument("--build", action="store_true", help="configure and build first")
    options = parser.parse_args(words)
    options.build_dir = (options.build_dir or ROOT / "build/release").resolve()
    options.folder = options.build_dir / "tests/bench"
    options.json = options.json or ROOT / "build/bench.json"
    options.plugin = (options.plugin or options.build_dir / "plugin/svm_pmu.so").resolve()
    options.qemu_arguments, options.qemu_environment = [], {}
    options.details = {}
    if options.build:
        build(parser)
    for file in (options.plugin, options.folder / "bench_times", options.folder / "bench_counts"):
        if not file.exists():
            parser.error(f"{file} is not there; --build makes what is missing")
    return options


def build(parser):
    jobs = str(os.cpu_count() or 1)
    for command in (["cmake", "--preset", "release"],
                    ["cmake", "--build", "--preset", "release", "-j", jobs, "--target", "bench"]):
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if result.returncode != 0:
            parser.error(f"{' '.join(command)} failed:\n{result.stdout[-3000:]}{result.stderr}")


def machine():
    """This machine in a line: CPU, how many, kernel."""
    names = [line.split(":")[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text()
             .splitlines() if line.startswith("model name")]
    cpu = names[0] if names else platform.machine()
    return f"{cpu}, {os.cpu_count()} CPUs, Linux {platform.release()}"


def measure(options):
    """All rows of the parts that were asked for, by part."""
    found = []
    for part, (functions, quick) in PARTS.items():
        if part in options.part if options.part else quick or not options.quick:
            for function in functions:
                try:
                    found += function(options)
                except counts.Failure as failure:
                    sys.exit(f"{part}: {failure}")
    order = list(PARTS)
    return sorted(found, key=lambda row: order.index(row.part))


def main():
    options = arguments()
    found = measure(options)
    print(rows.table(found, options.markdown))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({
        "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(), "load_average": os.getloadavg(), "quick": options.quick,
        "rows": [rows.as_json(row) for row in found], "sizes": options.details}, indent=1) + "\n")
    for reason in sorted({row.skipped for row in found if row.skipped}):
        print(f"SKIPPED: {reason}")
    missed = [row for row in found if row.exact and row.met is False]
    for row in missed:
        print(f"{row.what}: {row.value:g}, the goal is {row.goal}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
