# SPDX-License-Identifier: MIT
"""How often does the preload host call vcpu_reset under an unmodified QEMU? Once a vCPU and reset,
once when a vCPU is created, and never where there was neither. The table CASES is the expectation; it is printed with what was
seen, and the exit status says whether they agree.

What a reset is, QEMU says itself: one RESET event of QMP each. The firmware matters: SeaBIOS finds
that it runs for the second time and resets the machine once more ("In resume", "Attempting a hard
reboot"; src/resume.c), so that one system_reset of ours makes two RESET events; qboot does not.
Between the two the boot CPU has run, for it was it that asked. Another CPU's thread has the time
from the one to the other to call KVM_RUN; one that did not make it has nothing to reset and is
passed over, hence least and most. On microvm SeaBIOS finds no trace of its first run, for it could
not make its memory writable ("Unable to unlock ram"): one RESET event.

A machine without local APIC in KVM is refused by QEMU 8.0 and later ("Userspace local APIC with
KVM", docs/about/removed-features.rst); one without any local APIC they have.

loadvm resets the machine before it loads the state, without an event (QEMU migration/savevm.c,
load_snapshot): no vCPU runs between the two, so that is no reset. A vCPU that is created has one
call of its own.
"""

import dataclasses
import pathlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable

from qemu import CPU_MODEL, Failure, Qemu, arguments, skip, version, wait_until

# ---- what is done to a machine -------------------------------------------------------------------


def boot(vm):
    vm.wait_boots(1)


def reset(vm):
    """The guest's program has ended on all CPUs again, so all resets are over."""
    boots = vm.boots()
    vm.qmp.command("system_reset")
    vm.wait_boots(boots + 1)


def reset_without_boot(vm):
    """For a firmware that does not get through its second boot on every nested KVM."""
    resets = vm.resets()
    vm.qmp.command("system_reset")
    wait_until("two RESET events", lambda: vm.resets() >= resets + 2)
    vm.qmp.command("query-status")  # answered by the main loop, when it is through with the reset


def refused_reset(vm):
    """-action reboot=shutdown: the machine ends instead."""
    vm.qmp.command("system_reset")
    wait_until("the SHUTDOWN event", lambda: vm.qmp.count("SHUTDOWN") == 1)


def stop_and_cont(vm):
    vm.expected_stops += 1
    vm.qmp.command("stop")
    vm.qmp.command("cont")


def read_registers(vm):
    """QEMU gets the whole state of each vCPU and puts part of it back."""
    if "EIP=" not in vm.hmp("info registers -a"):
        raise Failure("info registers")


def savevm(vm):
    vm.expected_stops += 1
    succeed(vm.hmp("savevm here"), "savevm")


def loadvm(vm):
    vm.expected_stops += 1
    succeed(vm.hmp("loadvm here"), "loadvm")
    wait_until("cont", lambda: vm.qmp.command("query-status")["running"])


def migrate_out(vm):
    vm.expected_stops += 1
    vm.qmp.command("migrate", uri=f"exec:cat > {CASES_FOLDER}/state")
    wait_until("migration",
               lambda: vm.qmp.command("query-migrate").get("status") == "completed")


def come_in(vm):
    wait_until("incoming migration", lambda: vm.qmp.command("query-status")["running"])


def plug_cpu(vm):
    """The second CPU of a machine that has room for it; it waits for a start-up IPI."""
    empty = [cpu for cpu in vm.qmp.command("query-hotpluggable-cpus") if "qom-path" not in cpu]
    last = min(empty, key=lambda cpu: cpu["props"]["core-id"])
    vm.qmp.command("device_add", driver=last["type"], id="plugged", **last["props"])
    # its first KVM_RUN, after which it can be reset, is seen nowhere
    time.sleep(2)


def succeed(answer, what):
    if answer.strip():
        raise Failure(f"{what}: {answer.strip()}")


# ---- the expectation -----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Step:
    """Something done, and what comes of it: RESET events, calls of vcpu_reset for the boot CPU, and
    for each other CPU (least, most; the boot CPU's if not given)."""
    action: Callable
    events: int
    boot_cpu: int
    others: tuple = None

    def allowed(self, vcpu):
        exact = (self.boot_cpu, self.boot_cpu)
        return exact if vcpu == 0 or self.others is None else self.others


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    machine: str
    vcpus: int
    steps: tuple
    firmware: str = "qboot.rom"  # None: the machine's own
    extra: tuple = ()
    smp: str = None
    disk: bool = False
    plugin: bool = True
    launcher: bool = False
    refused: tuple = None  # (QEMU since this version ..., does not start and says that)


BOOT = Step(boot, 0, 1)
RESET = Step(reset, 1, 1)
SEABIOS_RESET = Step(reset, 2, 2, (1, 2))
THREE_RESETS = (BOOT, RESET, RESET, RESET)
SANDBOX = ("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny")
INCOMING = ("-incoming", "exec:cat {folder}/state")
NO_APIC = ("-cpu", f"{CPU_MODEL},-apic")
USER_APIC = ((8, 0), "KVM does not support userspace APIC")

CASES = (
    Case("microvm, 1 CPU", "microvm", 1, THREE_RESETS),
    Case("microvm, 4 CPUs", "microvm", 4, THREE_RESETS),
    # SeaBIOS; Debian 12's own QEMU has qboot under that name
    Case("microvm, own firmware", "microvm", 4, (BOOT, RESET), firmware=None),
    Case("pc, 1 CPU", "pc", 1, THREE_RESETS),
    Case("pc, 4 CPUs", "pc", 4, THREE_RESETS),
    Case("q35, 1 CPU", "q35", 1, THREE_RESETS),
    Case("q35, 4 CPUs", "q35", 4, THREE_RESETS),
    Case("pc, SeaBIOS, 1 CPU", "pc", 1, (BOOT, SEABIOS_RESET), firmware=None),
    Case("pc, SeaBIOS, 4 CPUs", "pc", 4, (BOOT, SEABIOS_RESET), firmware=None),
    Case("q35, SeaBIOS, 4 CPUs", "q35", 4, (BOOT, Step(reset_without_boot, 2, 2, (1, 2))),
         firmware=None),
    Case("split irqchip", "q35,kernel_irqchip=split", 4, THREE_RESETS),
    Case("irqchip in QEMU, 1 CPU", "pc,kernel_irqchip=off", 1, THREE_RESETS, refused=USER_APIC),
    Case("irqchip in QEMU, no APIC", "pc,kernel_irqchip=off", 1, THREE_RESETS, extra=NO_APIC),
    Case("sandbox", "q35", 4, THREE_RESETS, extra=SANDBOX),
    Case("stop and cont", "q35", 4, (BOOT, *3 * (Step(stop_and_cont, 0, 0),), RESET)),
    Case("info registers", "q35", 4, (BOOT, *3 * (Step(read_registers, 0, 0),), RESET)),
    Case("snapshot", "pc", 4, (BOOT, Step(savevm, 0, 0), Step(loadvm, 0, 0), RESET), disk=True),
    Case("migration, source", "pc", 4, (BOOT, Step(migrate_out, 0, 0))),
    Case("migration, destination", "pc", 4, (Step(come_in, 0, 1), RESET), extra=INCOMING),
    Case("CPU hot-plug", "q35", 1, (BOOT, Step(plug_cpu, 0, 0, (1, 1)), RESET, RESET), smp="1,maxcpus=4"),
    Case("reboot=shutdown", "q35", 4, (BOOT, Step(refused_reset, 0, 0)),
         extra=("-action", "reboot=shutdown,shutdown=pause")),
    Case("no plugin", "q35", 4, (Step(boot, 0, 0), Step(reset, 1, 0)), plugin=False),
    Case("vmm-run", "q35", 4, (BOOT, RESET), launcher=True),
)

CASES_FOLDER = pathlib.Path(tempfile.mkdtemp(prefix="svm-pmu-cases-"))

# ---- the comparison ------------------------------------------------------------------------------

ROW = "{:<24} {:<20} {:>14} {:>22} {}"


def start(options, case):
    extra = tuple(word.format(folder=CASES_FOLDER) for word in case.extra)
    plugins = f"{options.plugin},log-level=info"
    common = dict(machine=case.machine, vcpus=case.vcpus, firmware=case.firmware, extra=extra,
                  smp=case.smp, disk=case.disk)
    if case.launcher:
        prefix = (str(options.vmm_run), "--plugin", plugins, "--")
        return Qemu(options, prefix=prefix, **common)
    return Qemu(options, libraries=(options.preload,),
                plugins=plugins if case.plugin else None, **common)


def settled_counts(vm, before, step, vcpus):
    """The hook runs on the vCPU's thread; the least number must come, what is too much may."""
    def enough():
        counts = vm.hook_counts()
        return all(counts.get(v, 0) - before.get(v, 0) >= step.allowed(v)[0] for v in vcpus)
    try:
        wait_until("hooks", enough, 3)
    except Failure:
        pass  # told by the row
    vm.qmp.command("query-status")
    return vm.hook_counts()


def run_case(options, case):
    """Prints a row for each step; the number of rows that are wrong."""
    wrong = 0
    with start(options, case) as vm:
        hooks, events = {}, 0
        for step in case.steps:
            step.action(vm)
            vcpus = range(len(vm.qmp.command("query-cpus-fast")))
            now_hooks, now_events = settled_counts(vm, hooks, step, vcpus), vm.resets()
            seen = [now_hooks.get(v, 0) - hooks.get(v, 0) for v in vcpus]
            right = now_events - events == step.events and set(now_hooks) <= set(vcpus) and all(
                step.allowed(v)[0] <= seen[v] <= step.allowed(v)[1] for v in vcpus)
            expected = [f"{low}-{high}" if low != high else str(low)
                        for low, high in map(step.allowed, vcpus)]
            print(ROW.format(case.name, step.action.__name__,
                             f"{step.events} / {now_events - events}",
                             f"{' '.join(expected)} / {' '.join(map(str, seen))}",
                             "ok" if right else "WRONG"), flush=True)
            wrong += not right
            hooks, events = now_hooks, now_events
        created = len(vm.log("vm_created"))
        if created != (1 if case.plugin else 0):
            print(f"{case.name}: vm_created ran {created} times")
            wrong += 1
        failed = [line for line in vm.log("vcpu_reset") if line.get("result") != "0"]
        if failed:
            print(f"{case.name}: {failed[0]}")
            wrong += 1
        vm.quit()
    return wrong


def run_refused_case(options, case):
    """As run_case, where this QEMU must refuse to start."""
    try:
        with start(options, case):
            seen = "it started"
    except Failure as failure:
        seen = str(failure)
    right = case.refused[1] in seen
    print(ROW.format(case.name, "refused", "", "", "ok" if right else f"WRONG: {seen}"), flush=True)
    return not right


def main():
    options = arguments(__doc__.splitlines()[0])
    if options.preload is None or not options.preload.exists():
        skip("the preload host was not built")
    qemu_version = version(options)
    print(f"QEMU {qemu_version[0]}.{qemu_version[1]}")
    print(ROW.format("case", "step", "RESET events", "vcpu_reset by vCPU", ""))
    print(ROW.format("", "", "expected/seen", "expected / seen", ""))
    wrong = 0
    for case in CASES:
        if options.only not in case.name:
            continue
        if case.launcher and not (options.vmm_run and options.vmm_run.exists()):
            print(ROW.format(case.name, "", "", "", "the launcher was not built"))
            continue
        refused = case.refused and qemu_version >= case.refused[0]
        try:
            wrong += run_refused_case(options, case) if refused else run_case(options, case)
        except Failure as failure:
            print(ROW.format(case.name, "", "", "", f"WRONG: {failure}"), flush=True)
            wrong += 1
    print(f"{wrong} wrong" if wrong else "all as expected")
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        shutil.rmtree(CASES_FOLDER, ignore_errors=True)
