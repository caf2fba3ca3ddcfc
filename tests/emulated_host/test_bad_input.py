"""Bad input and machines that lack something: run.sh says one clear line, ends with the status that
its README names, and leaves no process, no mount and no temporary folder.

    test_bad_input.py --build FOLDER
"""
import argparse
import dataclasses
import os
import pathlib
import re
import stat
import subprocess
import sys
import tempfile

RUN = pathlib.Path(__file__).resolve().parent / "run.sh"
# of a QEMU that is played: the files of its two serial ports
SERIAL_PORTS = """for argument; do
  case $argument in
    file:*/console) console=${argument#file:} ;;
    file:*/out) out=${argument#file:} ;;
  esac
done"""
NO_ARCHIVE = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
HOST = ("--stock-qemu", "--", "true")
SAYS_ONE_WORD = 'echo one word >"$out"; exec sleep 1000'


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    arguments: tuple
    status: int
    says: str  # a pattern of the last line
    environment: dict = dataclasses.field(default_factory=dict)
    around: str = ""  # shell, in a name space of its own, before run.sh; $F is the folder
    kernels: bool = False  # pretend that the kernels were fetched
    qemu: str = ""  # shell, in place of QEMU


ROWS = (
    Row("an unknown kernel", ("--kernel", "4.4"), 2, r"--kernel.*4\.4.*5\.10.*newest"),
    Row("an unknown case", ("--case", "bogus"), 2, r"no case 'bogus'; there are: defaults "),
    Row("an unknown side", ("--case", "off/besides"), 2, r"no case 'off/besides'"),
    Row("counters that no CPU has", ("--perfmonv2", "9"), 2, r"--perfmonv2.*9"),
    Row("a suite for cases", ("--suite", "sid", "short"), 2, r"--suite is for a COMMAND"),
    Row("no command", ("--",), 2, r"no COMMAND after --"),
    Row("no product", ("--build", "/nonexistent", "--case", "off"), 1, r"no product in /nonexistent"),
    Row("no network", HOST, 77, r"SKIPPED: no package lists of Debian", NO_ARCHIVE),
    Row("no disk", HOST, 77, r"SKIPPED: .* has \d+ MiB free, 300 MiB are needed", NO_ARCHIVE,
        around="mount -t tmpfs -o size=4m none $F"),
    Row("too little memory", HOST, 77, r"SKIPPED: a host takes 3072 MiB of memory", kernels=True,
        around="echo 'MemAvailable: 1000000 kB' >$F/meminfo && "
               "mount --bind $F/meminfo /proc/meminfo"),
    Row("a QEMU that dies at once", HOST, 77,
        r"SKIPPED: no emulated host comes up here: status 3; no such machine", kernels=True,
        qemu="echo no such machine >&2; exit 3"),
    Row("a kernel that never comes up", HOST, 77,
        r"SKIPPED: no emulated host comes up here: stopped after \d+ seconds", kernels=True,
        environment={"EMULATED_HOST_PATIENCE": "0"}, qemu="exec sleep 1000"),
    Row("a host that hangs", HOST, 1, r"the emulation ended each time", kernels=True,
        environment={"EMULATED_HOST_SILENCE": "0"},
        qemu="echo Linux >\"$console\"; " + SAYS_ONE_WORD),
    Row("a host that hangs when it is done", ("--stock-qemu", "--", "exit", "3"), 3, r"^one word$",
        kernels=True, environment={"EMULATED_HOST_SILENCE": "0"},
        qemu="echo HOST-DONE 3 >\"$console\"; " + SAYS_ONE_WORD),
)


def pretend(folder):
    """What kernels.sh and guests.sh keep, with nothing in it."""
    for kernel in ("5.10", "6.1"):
        (folder / "kernels" / kernel / "modules").mkdir(parents=True)
        (folder / "kernels" / kernel / "vmlinuz").write_bytes(b"")
    (folder / "guests").mkdir()


def left(folder):
    """Processes that have the folder on their command line."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in process.read_bytes():
                found.append(process.parent.name)
        except OSError:
            pass
    return found


def check(row, build):
    """What is wrong; None: it cannot be played here."""
    with tempfile.TemporaryDirectory() as name:
        top = pathlib.Path(name)
        folder, temporary, programs = top / "folder", top / "tmp", top / "bin"
        for each in (folder, temporary, programs):
            each.mkdir()
        if row.kernels:
            pretend(folder)
        if row.qemu:
            fake = programs / "qemu-system-x86_64"
            fake.write_text(f"#!/bin/sh\n{SERIAL_PORTS}\n{row.qemu}\n")
            fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
        environment = {**os.environ, **row.environment, "TMPDIR": str(temporary), "F": str(folder),
                       "PATH": f"{programs}:{os.environ['PATH']}"}
        build = [] if "--build" in row.arguments else ["--build", str(build)]
        command = ["bash", str(RUN), "--folder", str(folder), *build, *row.arguments]
        if row.around:
            if subprocess.run(["unshare", "-rm", "true"], stderr=subprocess.DEVNULL).returncode:
                return None
            command = ["unshare", "-rm", "sh", "-c", row.around + ' && exec "$@"', "sh", *command]
        done = subprocess.run(command, env=environment, text=True, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        lines = done.stdout.strip().splitlines() or [""]
        wrong = []
        if done.returncode != row.status:
            wrong.append(f"status {done.returncode}, not {row.status}")
        if not re.search(row.says, lines[-1]):
            wrong.append("it said: " + " / ".join(lines[-5:]))
        wrong += [f"left in the temporary folder: {each.name}" for each in temporary.iterdir()]
        wrong += [f"process {pid} still runs" for pid in left(folder)]
        return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=pathlib.Path, required=True)
    options = parser.parse_args()
    failed, unplayed = False, []
    for row in ROWS:
        wrong = check(row, options.build)
        if wrong is None:
            unplayed.append(row.name)
            continue
        print(f"{row.name:30} {'WRONG: ' + '; '.join(wrong) if wrong else 'ok'}")
        failed |= bool(wrong)
    if unplayed and not failed:
        print(f"SKIPPED: no name spaces for users here: {', '.join(unplayed)}")
        return 77
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
