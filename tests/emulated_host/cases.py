"""The table of cases (cases.ini): how a case is run in a host, how its guest's lines are judged."""
import configparser
import pathlib
import re
import shlex

HERE = pathlib.Path(__file__).resolve().parent
SIDES = ("without", "with")
# Sides that must fail what "with" must show, and their plugins: none, and two with one fix taken out
BROKEN = {"with-none": None,
          "with-reset": "/build/tests/emulated_host/broken_reset.so",
          "with-capability": "/build/tests/emulated_host/broken_capability.so"}
GUEST_LINE = "console=ttyS0 loglevel=3 panic=-1 nokaslr sysrq_always_enabled nmi_watchdog=1"
# What a guest or a host says when the emulation went wrong: nothing that the product could cause.
CRASH = re.compile(r"\b(Oops|BUG:|Kernel panic(?! - not syncing: sysrq)|general protection|"
                   r"double fault|segfault|invalid opcode|KVM internal error|"
                   r"KVM: entry failed|rcu_\w+ detected stall|soft lockup)")


def read():
    """All cases by name, in the order of the file."""
    table = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    table.read(HERE / "cases.ini")
    return {name: Case(name, table[name]) for name in table.sections()}


def _for_host(condition, tags):
    """Whether "TAG TAG" has one of the tags, or "!TAG !TAG" none of them; empty: all hosts."""
    words = condition.split()
    if not words:
        return True
    return any(word[1:] not in tags if word.startswith("!") else word in tags for word in words)


class Case:
    def __init__(self, name, row):
        self.name, self._row = name, row
        self.shows = row["shows"]
        self.short = row.getboolean("short")
        self.suite = "" if row["qemu"] == "this" else row["qemu"]

    def is_for(self, tags):
        return _for_host(self._row["hosts"], tags)

    def guest_kernel(self):
        return self._row["kernel"]

    def sides(self):
        return [side for side in SIDES if any(key.startswith(side + " ") for key in self._row)]

    def command(self, side):
        """The line of the plan that runs this case."""
        plugin = BROKEN[side] if side in BROKEN else side == "with" and "svm_pmu.so"
        row = self._row
        vmm_run = "/build/host_preload/vmm-run"
        start = []
        if self.suite:
            start, vmm_run = ["chroot", f"/{self.suite}"], "/product/vmm-run"
        if plugin:
            options = f"{plugin},log-level=info" + (row["options"] and "," + row["options"])
            start += [vmm_run, "--log", "stderr", "--plugin", options, "--"]
        line = GUEST_LINE + (" memory_corruption_check=0 " + row["append"]).rstrip()
        qemu = ["qemu-system-x86_64", "-L", "/usr/share/qemu", "-L", "/usr/share/seabios",
                "-nodefaults", "-display", "none", "-accel", "kvm", "-machine", "q35",
                "-cpu", row["cpu"], "-m", row["memory"], *row["arguments"].split(),
                "-kernel", f"/guests/vmlinuz-{row['kernel']}",
                "-initrd", f"/guests/{row['guest']}.cpio", "-serial", "stdio", "-append", line]
        # of a crash kernel and what comes after it only the former says GUEST-DONE
        boots = "2" if row["guest"] == "kdump" else row["boots"]
        return shlex.join([row["drive"], f"{self.name} {side}", boots, "240", *start, *qemu])

    def expected(self, side, part, tags):
        """Pairs (text, must be there) of a boot, or of the VMM's lines ("vmm")."""
        lines = []
        side = side.partition("-")[0]
        for line in self._row.get(f"{side} {part}", "").strip().splitlines():
            condition = re.match(r"\[([^]]*)\] (.*)", line)
            if condition and not line.startswith("[Firmware"):
                if not _for_host(condition[1], tags):
                    continue
                line = condition[2]
            selector = "c0010000" if "stock" in tags else "c0010200"
            line = line.replace("{selector}", selector)
            lines.append((line.removeprefix("!"), not line.startswith("!")))
        return lines


class Result:
    """What a case's guest said at each boot, and the VMM."""

    def __init__(self, text):
        self.status = None
        self.vmm, self.boots = [], []
        early = []  # the kernel's own lines before its init
        done = False
        # a reset tears the line that was being written
        for line in re.sub(r"(?<!\n)GUEST-UP", "\nGUEST-UP", text).splitlines():
            if line.startswith("VMM"):
                self.vmm.append(line.removeprefix("VMM: "))
            elif line.startswith("CASE-ENDS "):
                self.status = int(line.split()[1])
            elif line.startswith("GUEST-UP"):
                self.boots.append([line.removeprefix("GUEST-UP "), *early])
                early, done = [], False
            elif self.boots and not done and not line.startswith("GUEST-DONE"):
                self.boots[-1].append(line)
            else:
                early.append(line)
                done = True
        self.crashed = self.status is None or bool(CRASH.search(text))

    def part(self, name):
        if name == "vmm":
            return self.vmm
        boot = int(name) - 1
        return self.boots[boot] if boot < len(self.boots) else []

    def wrong(self, case, side, tags):
        """One line for each expectation that is not met."""
        found = []
        for part in ("1", "2", "3", "vmm"):
            lines = self.part(part)
            where = "the VMM's lines" if part == "vmm" else f"boot {part}"
            expected = case.expected(side, part, tags)
            if expected and part != "vmm" and not lines:
                found.append(f"{where}: the guest did not come up")
                continue
            for text, wanted in expected:
                if any(text in line for line in lines) != wanted:
                    found.append(f"{where}: {'no' if wanted else 'there is'} '{text}'")
        return found

    def quote(self, boot):
        """The lines of a boot that speak of the PMU."""
        speaking = re.compile("Performance Events|Firmware Bug|Broken BIOS|Uhhuh|CYCLES|Perf NMI|"
                              "MIGRATED|CPUS 2")
        said = []
        for line in self.boots[boot]:
            if speaking.search(line) and (not said or said[-1].split()[0] != line.split()[0]
                                          or "CYCLES" not in line):
                said.append(line)
        return list(dict.fromkeys(said))
