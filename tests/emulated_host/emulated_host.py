"""Runs cases or a command in emulated AMD hosts; see run.sh."""
import argparse
import collections
import pathlib
import shlex
import sys
import time

import cases
import hosts
from hosts import CannotBeDone, Host, Machine, say

SOURCE = pathlib.Path(__file__).resolve().parents[2]


class OneLineErrors(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{self.prog}: {message}\n")


def arguments(words):
    command = []
    if "--" in words:
        command = words[words.index("--") + 1:]
        words = words[:words.index("--")]
    parser = OneLineErrors(prog="tests/emulated_host/run.sh", allow_abbrev=False)
    parser.add_argument("what", nargs="?", choices=("all", "short"),
                        help="all cases on all hosts, or the short list")
    parser.add_argument("--kernel", choices=hosts.KERNELS, help="of the host; 6.12 if not given")
    parser.add_argument("--perfmonv2", type=int, choices=range(1, 7), metavar="N", default=0,
                        help="a host with PerfMonV2 and N counters, 1 to 6")
    parser.add_argument("--mediated", action="store_true",
                        help="mediated vPMU: the newest kernel, with PerfMonV2")
    parser.add_argument("--stock-qemu", action="store_true",
                        help="Debian's own QEMU, nothing built; Linux 5.10 stores PMU registers")
    parser.add_argument("--suite", choices=("sid", "bullseye"),
                        help="with COMMAND: that Debian suite's QEMU is in the host, chroot /SUITE")
    parser.add_argument("--case", action="append", metavar="NAME",
                        help="only this, or only a side of it: NAME/without, NAME/with; or one that "
                        "must fail, without a fix: NAME/with-none, NAME/with-reset, "
                        "NAME/with-capability; may repeat")
    parser.add_argument("--list", action="store_true", help="names the cases")
    parser.add_argument("--folder", type=pathlib.Path, default=SOURCE / "build/emulated_host",
                        help="keeps kernels and QEMU (default: build/emulated_host)")
    parser.add_argument("--build", type=pathlib.Path, default=SOURCE / "build/release",
                        help="the product's build folder (default: build/release)")
    given = parser.parse_args(words)
    given.command = command
    if "--" in sys.argv and not command:
        parser.error("no COMMAND after --")
    if given.suite and not command:
        parser.error("--suite is for a COMMAND; cases name theirs")
    table = cases.read()
    for name in given.case or ():
        case, _, side = name.partition("/")
        if case not in table or side not in ("", *table[case].sides(),
                                                      *cases.BROKEN):
            parser.error(f"no case '{name}'; there are: {' '.join(table)}; each has the sides "
                         "NAME/without and NAME/with, or one of them, and NAME/with-none, "
                         "NAME/with-reset, NAME/with-capability, which must fail")
    if given.mediated:
        if given.kernel not in (None, "newest"):
            parser.error("--mediated: only the newest kernel has a mediated vPMU")
        given.kernel, given.perfmonv2 = "newest", given.perfmonv2 or 6
    if given.stock_qemu:
        if given.perfmonv2:
            parser.error("--stock-qemu has no PerfMonV2")
        given.kernel = given.kernel or "5.10"
    given.kernel = given.kernel or "6.12"
    return given, table


def run_command(given, host):
    """A command in a host, its output passed on; its status."""
    host.prepare(given.folder)
    roots = []
    if given.suite:
        hosts.script("other_qemu.sh", given.folder, given.build, given.suite)
        roots.append(given.folder / given.suite / "root.cpio")
    # no blank in front: a plan's last command is its status
    plan = ". /lib.sh\ncd {}\n{}\n".format(shlex.quote(str(SOURCE)), shlex.join(given.command))
    with Machine(host, given.folder, given.build, tests=True, roots=roots) as machine:
        for _ in range(hosts.TRIES):
            status, _text = machine.run(plan, output=pass_on)
            if status is not None:
                return status
            say(f"the emulation ended before the command did, again: {machine.last_words()}")
        machine.never_up()
    say("the emulation ended each time; this says nothing of the command")
    return 1


def pass_on(data):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


class Progress:
    """Says on stderr when a case has ended."""

    def __init__(self):
        self._text, self._begin = b"", time.monotonic()

    def __call__(self, data):
        self._text += data
        while b"\nCASE-ENDS" in self._text:
            case, _, self._text = self._text.partition(b"\nCASE-ENDS")
            name = case.rpartition(b"CASE-BEGINS ")[2].split(b"\n")[0].decode(errors="replace")
            say(f"[{time.monotonic() - self._begin:4.0f} s] {name} has run")


def choose(given, table):
    """The pairs of case and side that the arguments name."""
    wanted = given.case or [name for name, case in table.items()
                            if case.short or given.what != "short"]
    runs = []
    for name in wanted:
        name, _, side = name.partition("/")
        runs += [(table[name], each) for each in (*table[name].sides(), *cases.BROKEN)
                 if each == side or side == "" and each in cases.SIDES]
    return runs


def run_cases(given, host, runs):
    """Cases in one host; the names of those that failed."""
    tags = host.tags()
    runs = [(case, side) for case, side in runs if case.is_for(tags)]
    if not runs:
        sys.exit(f"none of these cases is for {host}: see \"hosts\" in cases.ini")
    chosen = {case for case, _ in runs}
    kernels = {case.guest_kernel() for case in chosen} | {"6.1"}
    host.prepare(given.folder, sorted(kernels))
    roots = []
    for suite in sorted({case.suite for case in chosen if case.suite}):
        hosts.script("other_qemu.sh", given.folder, given.build, suite)
        roots.append(given.folder / suite / "root.cpio")
    plan = ". /lib.sh\nhost_facts\n" + "".join(
        case.command(side) + "\n" for case, side in runs)
    print(f"== {host}", flush=True)
    results, crashes = {}, collections.Counter()
    progress = Progress()
    with Machine(host, given.folder, given.build, roots=roots) as machine:
        begin = time.monotonic()
        for _ in range(2 * hosts.TRIES):
            status, text = machine.run(plan, done=[f"{case.name} {side}" for case, side in results],
                                       output=progress)
            take(text, runs, results, crashes)
            if status is not None and len(results) == len(runs):
                break
            if status is None:
                say(f"{host}: the emulation ended, again: {machine.last_words()}")
        else:
            machine.never_up()
            say(f"{host}: the emulation ended too often; the rest says nothing of the product")
    failed = report(runs, results, tags)
    print(f"{host}: {len(chosen)} cases in {time.monotonic() - begin:.0f} s, "
          f"{sum(crashes.values())} crashes of the emulation", flush=True)
    return failed


def take(text, runs, results, crashes):
    """The results in a boot's text; a crash is not one until it happened three times."""
    by_name = {f"{case.name} {side}": (case, side) for case, side in runs}
    for piece in text.split("CASE-BEGINS ")[1:]:
        name, _, said = piece.partition("\n")
        result = cases.Result(said)
        if result.crashed and crashes[name] < 2:
            crashes[name] += 1
            say(f"{name}: the emulation crashed, again")
            continue
        results[by_name[name]] = result


def report(runs, results, tags):
    failed, before = [], None
    for case, side in runs:
        result = results.get((case, side))
        if case is not before:
            print(f"-- {case.name}: {case.shows}")
        before = case
        if result is None:
            failed.append(f"{case.name} {side}")
            print(f"{side:8} was not run")
            continue
        wrong = result.wrong(case, side, tags)
        must_fail = side in cases.BROKEN
        for boot in range(len(result.boots)):
            for line in result.quote(boot) or ["(no word of a PMU)"]:
                print(f"{side:8} boot {boot + 1} | {line}")
        if must_fail:
            print(f"{side:8} {'fails, as it must:' if wrong else 'FAILED: it must not be ok'}")
        else:
            print(f"{side:8} {'FAILED' if wrong else 'ok'}")
        for line in wrong:
            print(f"         {line}")
        if bool(wrong) != must_fail:
            failed.append(f"{case.name} {side}")
            for line in result.vmm[-5:]:
                print(f"         VMM: {line}")
    return failed


ALL_HOSTS = ([Host("5.10", stock=True)] + [Host(kernel) for kernel in hosts.KERNELS]
             + [Host(kernel, counters) for kernel in ("6.12", "newest") for counters in (6, 4)]
             + [Host("newest", 6, mediated=True)])


def main():
    given, table = arguments(sys.argv[1:])
    if given.list:
        for case in table.values():
            print(f"{case.name:18} {case.shows}")
        return 0
    if not (given.build / "host_preload/vmm-run").exists():
        sys.exit(f"no product in {given.build}: cmake --preset release && "
                 "cmake --build --preset release")
    given.folder.mkdir(parents=True, exist_ok=True)
    given.folder, given.build = given.folder.resolve(), given.build.resolve()
    host = Host(given.kernel, given.perfmonv2, given.mediated, given.stock_qemu)
    if given.command:
        return run_command(given, host)
    runs = choose(given, table)
    failed = []
    for host in ALL_HOSTS if given.what == "all" else [host]:
        failed += [f"{host}: {name}" for name in run_cases(given, host, runs)]
    if failed:
        print("FAILED:", *failed, sep="\n  ")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CannotBeDone as reason:
        print(f"SKIPPED: {reason}")
        sys.exit(77)
    except KeyboardInterrupt:
        sys.exit(130)
