# SPDX-License-Identifier: MIT
"""What can be counted: ioctls and system calls by strace, instructions by callgrind, allocations,
bytes and vm_created's ioctls by bench_counts itself, the file's size by strip."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

from rows import Row


class Missing(Exception):
    """What this machine lacks for a measurement."""


class Failure(Exception):
    """A program that measures could not do it."""


def run_counts(options, *words, prefix=()):
    """bench_counts with the plugin; its lines of JSON."""
    result = subprocess.run([*prefix, options.folder / "bench_counts", options.plugin, *words],
                            capture_output=True, text=True)
    if result.returncode != 0:
        text = f"bench_counts {' '.join(words)}: {result.stderr.strip()[-300:]}"
        raise Missing(text) if "ptrace" in text.lower() else Failure(text)
    return [json.loads(line) for line in result.stdout.splitlines()]


def need_program(name):
    if shutil.which(name) is None:
        raise Missing(f"no {name}")


# ---- strace --------------------------------------------------------------------------------------

STRACE_LINE = re.compile(r"(\d+) +(\w+)\((.*)")


def system_calls(trace):
    """Those of each thread between its write(-1, "begin") and write(-1, "end"), by name, ioctls by
    their request."""
    inside, calls = set(), {}
    for line in trace.splitlines():
        found = STRACE_LINE.match(line)
        if not found:
            continue  # the other half of a call, a signal, an exit
        thread, name, arguments = found.groups()
        if name == "write" and arguments.startswith('-1, "begin"'):
            inside.add(thread)
        elif name == "write" and arguments.startswith('-1, "end"'):
            inside.discard(thread)
        elif thread in inside:
            if name == "ioctl":
                name = arguments.split(", ")[1].rstrip(")")
            calls[name] = calls.get(name, 0) + 1
    return calls


def traced_resets(options, kvm, vcpus, threads, rounds):
    """(resets, registers a reset, system calls made by them)."""
    need_program("strace")
    with tempfile.TemporaryDirectory() as folder:
        trace = pathlib.Path(folder) / "trace"
        answer = run_counts(options, "resets", kvm, str(vcpus), str(threads), str(rounds),
                            prefix=("strace", "-f", "-o", str(trace)))[0]
        return answer["resets"], answer["registers"], system_calls(trace.read_text())


def traced_rows(options):
    """One thread, then eight: what a reset asks of the kernel, and that no thread waits."""
    ioctls = Row("reset", "ioctls a reset", goal="= 1", exact=True)
    others = Row("reset", "other system calls a reset", goal="= 0", exact=True)
    futexes = Row("scale", "futex calls of 1024 resets on 64 vCPUs from 8 threads", goal="= 0",
                  exact=True)
    try:
        if not os.access("/dev/kvm", os.R_OK | os.W_OK):
            raise Missing("/dev/kvm cannot be opened")
        resets, registers, calls = traced_resets(options, "/dev/kvm", 4, 1, 25)
        if registers == 0:
            raise Missing("this KVM has no PMU register that a reset could write")
        made = sum(calls.pop(name) for name in list(calls) if name.startswith("KVM_"))
        ioctls.value, others.value = made / resets, sum(calls.values()) / resets
        ioctls.note = f"strace, /dev/kvm, {registers} registers"
        others.note = " ".join(sorted(calls))
        futexes.value = traced_resets(options, "/dev/kvm", 64, 8, 16)[2].get("futex", 0)
    except Missing as missing:
        ioctls.skipped = others.skipped = futexes.skipped = str(missing)
    return [ioctls, others, futexes]


# ---- callgrind -----------------------------------------------------------------------------------


def instructions(options):
    """Instructions a call of each case of `bench_counts instructions`, and the registers."""
    need_program("valgrind")
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "out"
        answer = run_counts(options, "instructions", prefix=(
            "valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={out}"))
        counted = {}
        for dump in out.parent.glob("out*"):
            text = dump.read_text()
            case = re.search(r"^desc: Trigger: Client Request: (.+)$", text, re.MULTILINE)
            total = re.search(r"^totals: (\d+)$", text, re.MULTILINE)
            if case and total:
                counted[case[1]] = int(total[1]) / answer[0]["calls"]
        return counted, answer[0]["registers"]


def instruction_rows(options):
    batch = Row("reset", "instructions of a reset into the host's batch", goal="<= 200", exact=True)
    own = Row("reset", "instructions of a reset around its own ioctl", exact=True)
    flat = Row("scale", "instructions a reset, 1024 vCPUs", "1 vCPU", unit="ratio", goal="<= 1.05",
               exact=True)
    try:
        counted, registers = instructions(options)
        batch.value = round(counted["batch 1"] - counted["add 1"], 1)
        own.value = round(counted["reset 1"] - counted["callback 1"], 1)
        flat.value = max(counted[f"{case} 1024"] / counted[f"{case} 1"]
                         for case in ("batch", "reset"))
        batch.note = f"callgrind, {registers} registers, without the host's add"
        own.note = f"callgrind, {registers} registers, without the host's callback"
    except Missing as missing:
        batch.skipped = own.skipped = flat.skipped = str(missing)
    return [batch, own, flat]


# ---- what bench_counts counts itself -------------------------------------------------------------


def memory_rows(options):
    lines = {line["vcpus"]: line for line in run_counts(options, "memory")}
    few, many = min(lines), max(lines)
    a_vcpu = (lines[many]["bytes"] - lines[few]["bytes"]) / (many - few)
    return [
        Row("reset", "allocations a reset", goal="= 0", exact=True,
            value=max(line["reset_allocations"] / line["vcpus"] for line in lines.values())),
        Row("reset", "locks a reset", goal="= 0", exact=True,
            value=max(line["reset_locks"] / line["vcpus"] for line in lines.values())),
        Row("scale", "bytes that the plugin keeps of a vCPU", value=round(a_vcpu, 2), goal="<= 64",
            exact=True, note=f"and {lines[few]['bytes'] - a_vcpu:.0f} of a VM"),
    ]


def vm_created_rows(options):
    lines = run_counts(options, "vm_created")
    rows = []
    for capability, limit in ((True, 2), (False, 4)):
        # a kernel that has the capability but offers nothing is among the others
        chosen = [line for line in lines if line["capability"] == capability]
        worst = max(chosen, key=lambda line: line["ioctls"])
        rows.append(Row(
            "vm_created", "ioctls of vm_created, KVM_PMU_CAP_DISABLE "
            + ("offered" if capability else "not offered"), value=worst["ioctls"],
            goal=f"<= {limit}", exact=True,
            note=f"most of {len(chosen)} simulated hosts and options"))
    return rows


def size_rows(options):
    row = Row("load", "the plugin's file, stripped", unit="KiB", goal="<= 900", exact=True)
    try:
        need_program("strip")
        with tempfile.TemporaryDirectory() as folder:
            stripped = pathlib.Path(folder) / "plugin"
            subprocess.run(["strip", "-o", stripped, options.plugin], check=True)
            row.value = round(stripped.stat().st_size / 1024, 1)
    except Missing as missing:
        row.skipped = str(missing)
    return [row]
