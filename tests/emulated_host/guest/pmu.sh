#!/bin/sh
# init of a guest: what it says of its PMU, whether cycles are counted, then a reset. With "stay" on
# the command line no reset: it counts again each second and takes CPUs that are plugged in.
# shellcheck source=tests/emulated_host/guest/begin.sh
. /begin.sh
pmu_lines
sleep 2
unknown_nmis
cycles
if grep -q stay /proc/cmdline; then
  echo GUEST-STAYS
  while :; do
    sleep 1
    for cpu in /sys/devices/system/cpu/cpu[1-9]*/online; do echo 1 >"$cpu"; done 2>/dev/null
    echo "CPUS $(grep -c ^processor /proc/cpuinfo)"
    cycles
  done
fi
reset
