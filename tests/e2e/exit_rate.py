# SPDX-License-Identifier: MIT
"""What does the preload host cost a guest whose every instruction is an exit to the VMM? Exits a
second of the "out" program of guest.S in an unmodified QEMU, without and with the preload host.

One QEMU of each kind lives all the time, only one runs at a time (QMP stop, cont). They take turns
in short windows, in alternating order, so that what else the machine does meets all alike; each
window with the preload host is compared with the one without it of the same round. The result is
the median of these ratios and its quartiles. A second is one of CPU time of the vCPU's thread
(/proc/PID/task/TID/schedstat), exits are KVM's own count (QMP query-stats).

Nothing is asserted but that the guests ran: rates belong to the machine.
"""

import contextlib
import pathlib
import statistics
import sys
import time

from qemu import Failure, Qemu, arguments, skip

ROUNDS = 31
WINDOW = 0.08  # seconds
WARM_UP = 0.02

FILTER = "pmu-cap-disabled=on,pmu-off-method=msr-filter"
# name, with the preload host?, options of the plugin (None = none loaded)
VARIANTS = (
    ("QEMU alone", False, None),
    ("QEMU alone, a second one", False, None),  # how much the measurement itself spreads
    ("preload host, svm_pmu", True, ""),
    ("preload host, svm_pmu, filter", True, f",{FILTER}"),
)


def start(options, preload, plugin_options):
    return Qemu(options, "microvm", program="out",
                libraries=(options.preload,) if preload else (),
                plugins=None if plugin_options is None else f"{options.plugin}{plugin_options}")


def sample(vm):
    """(exits, nanoseconds on a CPU) of the vCPU since it was made."""
    thread = vm.qmp.command("query-cpus-fast")[0]["thread-id"]
    schedstat = pathlib.Path(f"/proc/{vm.process.pid}/task/{thread}/schedstat").read_text()
    answers = vm.qmp.command("query-stats", target="vcpu",
                             providers=[{"provider": "kvm", "names": ["exits"]}])
    return answers[0]["stats"][0]["value"], int(schedstat.split()[0])


def has_statistics(vm):
    """QEMU 7.1 has query-stats, Linux 5.14 KVM_GET_STATS_FD."""
    commands = {command["name"] for command in vm.qmp.command("query-commands")}
    return "query-stats" in commands and vm.qmp.command("query-stats", target="vcpu")


def rate(vm):
    """Exits a second in one window."""
    vm.qmp.command("cont")
    time.sleep(WARM_UP)
    exits, nanoseconds = sample(vm)
    time.sleep(WINDOW)
    exits_later, nanoseconds_later = sample(vm)
    vm.qmp.command("stop")
    if exits_later == exits:
        raise Failure("the guest does not run")
    return (exits_later - exits) / (nanoseconds_later - nanoseconds) * 1e9


def measure(options, variants, count):
    """Rounds of exits a second, one number a variant; none where exits are not counted."""
    with contextlib.ExitStack() as stack:
        machines = []
        for _, preload, plugin_options in variants:
            machines.append(stack.enter_context(start(options, preload, plugin_options)))
            if not has_statistics(machines[-1]):
                return []
            machines[-1].qmp.command("stop")
        rounds = []
        for number in range(count):
            order = range(len(machines)) if number % 2 == 0 else reversed(range(len(machines)))
            rates = {index: rate(machines[index]) for index in order}
            rounds.append([rates[index] for index in range(len(machines))])
        return rounds


def main():
    options = arguments(__doc__.splitlines()[0])
    if options.preload is None or not options.preload.exists():
        skip("the preload host was not built")
    rounds = measure(options, VARIANTS, ROUNDS)
    if not rounds:
        skip("this QEMU or this KVM does not count exits")
    print(f"{'':<32} {'exits/s':>9} {'ratio':>7} {'quartiles':>15}   "
          f"{ROUNDS} rounds of {WINDOW} s, median")
    for index, (name, *_) in enumerate(VARIANTS):
        low, middle, high = statistics.quantiles([each[index] / each[0] for each in rounds], n=4)
        exits = statistics.median(each[index] for each in rounds)
        print(f"{name:<32} {exits:>9.0f} {middle:>7.3f} {low:>7.3f}-{high:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
