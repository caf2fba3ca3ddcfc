# SPDX-License-Identifier: MIT
"""One QEMU under test: started with or without the preload host, driven by QMP, watched by its
guest's console, QMP's events and the log of the preload host. Python 3 standard library only."""

import argparse
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

BOOT_TIMEOUT = 40  # seconds; SeaBIOS needs 4 on a nested KVM that emulates unpaged code
# Six counters, if the KVM has them; without the vendor QEMU takes the host's.
# pmu=on: QEMU 11 switches an AMD vPMU off by itself where nobody says so
CPU_MODEL = "EPYC,vendor=AuthenticAMD,+perfctr-core,pmu=on"

LOG_LINE = re.compile(r"vmm_preload\[(\d+)/(\d+)\] (\w+): (\S+)(.*)")
KEY_VALUE = re.compile(r"(\w+)=(\S+)")


class Failure(Exception):
    """What was seen is not what must be."""


def skip(reason):
    """Ends the program; ctest counts this exit status as skipped (SKIP_RETURN_CODE)."""
    print(f"SKIPPED: {reason}")
    sys.exit(77)


def arguments(description):
    """The files under test, and a skip where the machine cannot run them."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--qemu", default="qemu-system-x86_64")
    parser.add_argument("--qemu-root", type=pathlib.Path,
                        help="instead: where the packages of a QEMU are extracted, not installed")
    for name in ("guest", "preload", "plugin", "shim", "vmm-run"):
        parser.add_argument(f"--{name}", type=pathlib.Path)
    parser.add_argument("--only", default="", help="run the cases whose name contains this")
    options = parser.parse_args()
    options.qemu_arguments, options.qemu_environment = [], {}
    if options.qemu_root:
        use_extracted(options)
    if shutil.which(options.qemu) is None:
        skip(f"no {options.qemu}")
    if shutil.which("qemu-img") is None:
        skip("no qemu-img")
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        skip("/dev/kvm cannot be opened")
    return options


def use_extracted(options):
    """A QEMU that runs from where its packages are: with their firmware, libraries and modules."""
    root = options.qemu_root
    options.qemu = str(root / "usr/bin/qemu-system-x86_64")
    if not os.path.exists(options.qemu):
        skip("no second QEMU was fetched")
    for folder in ("qemu", "seabios"):
        options.qemu_arguments += ["-L", str(root / "usr/share" / folder)]
    libraries = [str(root / folder / "x86_64-linux-gnu") for folder in ("usr/lib", "lib")]
    options.qemu_environment = {"LD_LIBRARY_PATH": ":".join(libraries),
                                "QEMU_MODULE_DIR": f"{libraries[0]}/qemu"}


def version(options):
    """QEMU's, as (major, minor)."""
    text = subprocess.run([options.qemu, "--version"], capture_output=True, text=True, check=True,
                          env={**os.environ, **options.qemu_environment}).stdout
    return tuple(map(int, re.search(r"version (\d+)\.(\d+)", text).groups()))


def wait_until(what, condition, timeout=BOOT_TIMEOUT):
    """Polls; the condition's value once it is true."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure(f"timeout: {what}")
        time.sleep(0.02)


class Qmp:
    """QEMU Machine Protocol over a Unix socket; keeps every event that came."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(BOOT_TIMEOUT)
        self.socket.connect(str(path))
        # to read only: a text file that is written to forgets what it has read ahead
        self.stream = self.socket.makefile("r", encoding="utf-8")
        self.events = []
        json.loads(self.stream.readline())  # the greeting
        self.command("qmp_capabilities")

    def command(self, name, **arguments_):
        try:
            self.socket.sendall(
                (json.dumps({"execute": name, "arguments": arguments_}) + "\n").encode())
            return self._answer(name)
        except OSError as error:
            raise Failure(f"{name}: {error}") from error

    def _answer(self, name):
        while True:
            line = self.stream.readline()
            if not line:
                raise Failure(f"QEMU went away in {name}")
            message = json.loads(line)
            if "event" in message:
                self.events.append(message)
            elif "error" in message:
                raise Failure(f"{name}: {message['error']['desc']}")
            else:
                return message["return"]

    def count(self, event):
        """How many came until now: a round trip fetches all that QEMU has sent before."""
        self.command("query-status")
        return sum(1 for message in self.events if message["event"] == event)


class Qemu:
    """A virtual machine with the guest of guest.S. Use in a `with`.

    libraries: LD_PRELOAD, in order. plugins: VMM_PLUGINS, or None. disk: one for savevm, no device.
    """

    def __init__(self, options, machine, vcpus=1, firmware=None, program="dirty", libraries=(),
                 plugins=None, environment=None, extra=(), smp=None, prefix=(), disk=False):
        self.vcpus = vcpus
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="svm-pmu-e2e-"))
        self.console_file = self.folder / "console"
        self.log_file = self.folder / "log"
        self.stderr_file = self.folder / "stderr"
        self.qmp = None
        qmp_socket = self.folder / "qmp"
        command = [*prefix, options.qemu, *options.qemu_arguments,
                   "-accel", "kvm", "-machine", machine, "-cpu", CPU_MODEL,
                   "-smp", smp or str(vcpus), "-m", "64", "-nodefaults", "-display", "none",
                   "-kernel", str(options.guest), "-append", f"{program} {vcpus}",
                   "-debugcon", f"file:{self.console_file}",
                   "-qmp", f"unix:{qmp_socket},server=on,wait=off", *extra]
        if disk:
            image = self.folder / "disk.qcow2"
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "64M"], check=True)
            command += ["-drive", f"if=none,format=qcow2,file={image}"]
        if firmware:
            command += ["-bios", firmware]
        env = {**os.environ, **options.qemu_environment, **(environment or {}),
               "VMM_PRELOAD_LOG": str(self.log_file)}
        env.pop("VMM_PLUGINS", None)
        if libraries:
            env["LD_PRELOAD"] = " ".join(str(library) for library in libraries)
        if plugins is not None:
            env["VMM_PLUGINS"] = plugins
        with open(self.stderr_file, "wb") as stderr:
            self.process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL,
                                            stdout=stderr, stderr=stderr)
        try:
            self.qmp = wait_until("QMP", lambda: self._connect(qmp_socket), 20)
        except BaseException:
            self.close()
            raise

    def _connect(self, path):
        if self.process.poll() is not None:
            raise Failure(f"QEMU ended with {self.process.returncode}: {self.complaints()}")
        try:
            return Qmp(path)
        except (OSError, ValueError, Failure):
            return None  # not there yet, or just ending: the next time tells

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def quit(self):
        """An orderly end, so that the plugin's destroy is part of the test."""
        try:
            self.qmp.command("quit")
        except Failure:
            pass
        if self.process.wait(20) != 0:
            raise Failure(f"QEMU ended with {self.process.returncode}: {self.complaints()}")

    # ---- what QEMU and the guest say

    def complaints(self):
        """Standard error, without what QEMU says of CPU features that this host does not have."""
        noise = ("doesn't support requested feature", "exceeds the recommended cpus")
        lines = self.stderr_file.read_text(errors="replace").splitlines()
        return " | ".join(line for line in lines if not any(n in line for n in noise))[:400]

    def console(self):
        try:
            return self.console_file.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def boots(self):
        """How often the guest's program ran to its end on all CPUs."""
        return self.console().count(": end\n") // self.vcpus

    def wait_boots(self, count):
        def done():
            if self.process.poll() is not None or self.qmp.count("STOP") > self.expected_stops:
                raise Failure(f"the guest stopped: {self.complaints()}")
            return self.boots() >= count
        wait_until(f"the guest's boot number {count}", done)

    expected_stops = 0

    def resets(self):
        """Resets of the machine since it was made."""
        return self.qmp.count("RESET")

    def hmp(self, line):
        return self.qmp.command("human-monitor-command", **{"command-line": line})

    # ---- what the preload host says

    def log(self, event):
        """The log's lines of one event, each as a dictionary of its keys."""
        try:
            text = self.log_file.read_text(errors="replace")
        except FileNotFoundError:
            return []
        lines = (LOG_LINE.match(line) for line in text.splitlines())
        return [dict(KEY_VALUE.findall(line[5]), pid=int(line[1]), level=line[3])
                for line in lines if line and line[4] == event]

    def hook_counts(self):
        """vcpu_reset calls by vCPU index."""
        counts = {}
        for line in self.log("vcpu_reset"):
            index = int(line["vcpu"])
            counts[index] = counts.get(index, 0) + 1
        return counts
