# SPDX-License-Identifier: MIT
"""What does a guest in an unmodified QEMU find in its PMU registers, without the plugin and with?
Both defects, before and after, in one table; the exit status says whether it is as expected.

The guest ("dirty" of guest.S) reports every PMU register on every CPU, then leaves all selectors at
530076 and is reset by QMP's system_reset; its second report shows what outlived the reset.

loadvm in place: this QEMU saves no AMD PMU register, so a guest that is put back to a snapshot has
the PMU of the time after it, without the plugin and with: a restore is no reset, and what counts in
the guest goes on counting.

On the host's own KVM the first fix shows only on an AMD host, the second one only where its vPMU is
on. So most rows have the simulated KVM's PMU in front of the real KVM, which still runs the guest:
sim_shim.cpp. On another vendor's host KVM has none of AMD's registers (K7 selectors read 0 and drop
what is written), and the plugin leaves the VM as it is.
"""

import dataclasses
import pathlib
import re
import sys

from qemu import Failure, Qemu, arguments, skip

REGISTER = re.compile(r"cpu (\d+): (rdmsr|wrmsr) ([0-9a-f]{8}) (?:= ([0-9a-f]{16})|(#GP))")
STALE = 0x530076
LEGACY = tuple(range(0xC0010000, 0xC0010004))  # PerfEvtSel0-3
CORE = tuple(range(0xC0010200, 0xC001020C, 2))  # PERF_CTL0-5
REPORTED = 8 + 12 + 2  # registers in a report of guest.S, all_registers

# What all selectors of a bank read, on every CPU; FIRST: what they read at the first boot.
ZERO, DIRTY, FAULT, FIRST = "0", "530076", "#GP", "as at the first boot"

AMD_HOST = any(vendor in pathlib.Path("/proc/cpuinfo").read_text()
               for vendor in ("AuthenticAMD", "HygonGenuine"))


@dataclasses.dataclass(frozen=True)
class Case:
    """Answers: of (PerfEvtSel0-3, PERF_CTL0-5): at the first boot, read back after 530076 was
    written, at the second boot. None = whatever it is."""
    name: str
    kvm: str  # "real", or a spec of the simulated KVM
    plugin: str  # options; None = no plugin
    first: tuple
    written: tuple
    second: tuple
    vcpus: int = 4
    loadvm: bool = False  # instead of the reset


NEW, OLD = "sim:linux-6.12", "sim:linux-5.10"
MEDIATED = "sim:linux-7.2,host-perfmonv2,mediated"
OFF = "pmu-cap-disabled=on"
FILTERED = f"{OFF},pmu-off-method=msr-filter"
CLEAN, STAYS, ANY = (ZERO, ZERO), (DIRTY, DIRTY), (None, None)
NO_PMU = (ZERO, FAULT)  # a vPMU that is off: K7 ignores writes, F15H is not there
REAL = (ZERO, None)  # whether there is a vPMU, and F15H in it, is this host's matter

CASES = (
    Case("as it is, 1 CPU", NEW, None, CLEAN, STAYS, STAYS, vcpus=1),
    Case("reset, 1 CPU", NEW, "", CLEAN, STAYS, CLEAN, vcpus=1),
    Case("as it is", NEW, None, CLEAN, STAYS, STAYS),
    Case("reset", NEW, "", CLEAN, STAYS, CLEAN),
    Case("loadvm, as it is", NEW, None, CLEAN, STAYS, STAYS, vcpus=1, loadvm=True),
    Case("loadvm, no reset", NEW, "", CLEAN, STAYS, STAYS, vcpus=1, loadvm=True),
    Case("no reset wanted", NEW, "pmu-reset=off", CLEAN, STAYS, STAYS),
    Case("off", NEW, OFF, NO_PMU, NO_PMU, NO_PMU),
    Case("off by filter", NEW, FILTERED, NO_PMU, NO_PMU, NO_PMU),
    Case("as it is", OLD, None, CLEAN, STAYS, STAYS),
    Case("reset", OLD, "", CLEAN, STAYS, CLEAN),
    Case("off", OLD, OFF, NO_PMU, NO_PMU, NO_PMU),
    Case("reset", MEDIATED, "", CLEAN, STAYS, CLEAN),
    Case("off", MEDIATED, OFF, NO_PMU, NO_PMU, NO_PMU),
    Case("as it is", "real", None, REAL, ANY, ANY),
    Case("reset", "real", "", REAL, ANY, (FIRST, FIRST)),
    *((Case("off by filter", "real", FILTERED, NO_PMU, NO_PMU, NO_PMU),) if AMD_HOST else
      (Case("nothing to filter", "real", FILTERED, REAL, ANY, (FIRST, FIRST)),)),
)

# ---- what the guest says -------------------------------------------------------------------------


def boots(console, vcpu):
    """The reports of one CPU: for each boot (found, read back), register -> value or "#GP"."""
    reports = []
    for line in console.splitlines():
        if line in (f"cpu {vcpu}: begin", f"cpu {vcpu}: nmi"):
            reports.append([])
        match = REGISTER.match(line)
        if match and int(match[1]) == vcpu and match[2] == "rdmsr":
            reports[-1].append((int(match[3], 16), match[5] or f"{int(match[4], 16):x}"))
    return [(dict(report[:REPORTED]), dict(report[REPORTED:])) for report in reports]


def answer(report, bank):
    """What the selectors of a bank read, if all the same."""
    values = {report[register] for register in bank}
    return values.pop() if len(values) == 1 else "|".join(sorted(values))


def answers(console, vcpus):
    """(first, written, second) as in Case, over all CPUs."""
    def over_all(pick):
        banks = []
        for bank in (LEGACY, CORE):
            values = {answer(pick(boots(console, vcpu)), bank) for vcpu in range(vcpus)}
            banks.append("|".join(sorted(values)))
        return tuple(banks)
    return (over_all(lambda reports: reports[0][0]), over_all(lambda reports: reports[0][1]),
            over_all(lambda reports: reports[1][0]))


# ---- the comparison ------------------------------------------------------------------------------

ROW = "{:<18} {:<37} {:>3} {:>14} {:>14} {:>14} {}"


def reset(vm):
    vm.qmp.command("system_reset")
    vm.wait_boots(2)


def save_and_load(vm):
    """The guest is behind its program; an NMI makes it report again."""
    vm.expected_stops += 2
    for line in ("savevm here", "loadvm here"):
        answer = vm.hmp(line).strip()
        if answer:
            raise Failure(f"{line}: {answer}")
    vm.qmp.command("inject-nmi")
    vm.wait_boots(2)


def run_case(options, case):
    libraries, environment = [], {}
    if case.plugin is not None:
        libraries.append(options.preload)
    if case.kvm != "real":
        libraries.append(options.shim)
        environment["SIM_SHIM"] = case.kvm
    plugins = None
    if case.plugin is not None:
        plugins = f"{options.plugin},log-level=info" + (f",{case.plugin}" if case.plugin else "")
    with Qemu(options, "pc", firmware="qboot.rom", vcpus=case.vcpus, libraries=libraries,
              plugins=plugins, environment=environment, disk=case.loadvm) as vm:
        vm.wait_boots(1)
        if case.loadvm:
            save_and_load(vm)
        else:
            reset(vm)
        seen = answers(vm.console(), case.vcpus)
        vm.quit()
    second = tuple(first if want == FIRST else want for want, first in zip(case.second, seen[0]))
    expected = (case.first, case.written, second)
    right = all(want in (None, got) for wanted, got_pair in zip(expected, seen)
                for want, got in zip(wanted, got_pair))
    print(ROW.format(case.name, case.kvm, case.vcpus, *(" ".join(pair) for pair in seen),
                     "ok" if right else f"WRONG, not {expected}"), flush=True)
    return right


def main():
    options = arguments(__doc__.splitlines()[0])
    if options.preload is None or not options.preload.exists():
        skip("the preload host was not built")
    print("All selectors of all CPUs, K7 (c0010000-3) and F15H (c0010200-a):")
    print(ROW.format("plugin", "KVM", "CPU", "first boot", "after 530076", "after reset", ""))
    wrong = 0
    for case in CASES:
        if options.only not in f"{case.name} {case.kvm}":
            continue
        try:
            wrong += not run_case(options, case)
        except Failure as failure:
            print(ROW.format(case.name, case.kvm, case.vcpus, "", "", "", f"WRONG: {failure}"))
            wrong += 1
    print(f"{wrong} wrong" if wrong else "all as expected")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
