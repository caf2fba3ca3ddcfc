# SPDX-License-Identifier: MIT
"""What takes time in a process of our own: bench_times, and its counters as rows."""

import json
import subprocess

from counts import Failure
from rows import Row

ROUNDS, QUICK_ROUNDS = 301, 5
QUICK_SIZES = "(16/1|16/8)"  # vCPUs/threads; the whole list is times.cpp's


def run_times(options, expression):
    """bench_times; its results by name."""
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    result = subprocess.run(
        [options.folder / "bench_times", options.plugin, options.folder / "empty_plugin.so",
         str(rounds), f"--benchmark_filter={expression}", "--benchmark_format=json"],
        capture_output=True, text=True)
    if result.returncode != 0:
        raise Failure(f"bench_times: {result.stderr.strip()[-300:]}")
    # "reset/kvm/iterations:301/manual_time"
    return {each["name"].split("/iterations")[0]: each
            for each in json.loads(result.stdout)["benchmarks"]}


def row_of(result, part, what, against, goal="", note=""):
    row = Row(part, what, against, unit="ratio", goal=goal, note=note)
    if result.get("error_occurred"):
        row.skipped = result["error_message"]
        return row
    row.value = result["ratio"]
    row.rounds = result["iterations"]
    row.quartiles = (result["ratio_q1"], result["ratio_q3"])
    row.control = (result["control_q1"], result["control"], result["control_q3"])
    if not note:
        row.note = f"{duration(result['measured_ns'])}, {duration(result['base_ns'])}"
    return row


def duration(nanoseconds):
    return f"{nanoseconds / 1000:.2f} us" if nanoseconds >= 1000 else f"{nanoseconds:.0f} ns"


def reset_rows(options):
    results = run_times(options, "^(reset|one_by_one)/kvm/")
    registers = f"{results['reset/kvm'].get('registers', 0):.0f} registers"
    return [
        row_of(results["reset/kvm"], "reset", f"`vcpu_reset`, {registers}, /dev/kvm",
               "the bare KVM_SET_MSRS of the same registers", "<= 1.03"),
        row_of(results["one_by_one/kvm"], "reset", f"one KVM_SET_MSRS a register, {registers}",
               "one for all of them"),
    ]


def scale_rows(options):
    sizes = QUICK_SIZES if options.quick else ".*"
    results = run_times(options, f"^(bare|shared)/{sizes}/")
    options.details.update(results)
    rows = []
    for kind, what, against in (
            ("shared", "a reset without its ioctl", "as many threads, each with a VM of its own"),
            ("bare", "a reset, /dev/kvm", "the bare ioctl there")):
        chosen = {name: each for name, each in results.items() if name.startswith(kind + "/")}
        usable = {name: each for name, each in chosen.items() if not each.get("error_occurred")}
        # the one that did worst stands for all; the others are in the JSON
        name = max(usable or chosen, key=lambda each: usable[each]["ratio"] if usable else 0)
        _, vcpus, threads = name.split("/")
        rows.append(row_of(chosen[name], "scale",
                           f"{what}, {vcpus} vCPUs from {threads} threads", against, "<= 1.05"))
        rows[-1].note += f"; the worst of {len(chosen)} sizes"
    return rows


def load_rows(options):
    result = run_times(options, "^load/")["load"]
    return [row_of(result, "load", "dlopen, create, destroy, dlclose",
                   "an empty plugin with the same libraries", "<= 1.25")]
