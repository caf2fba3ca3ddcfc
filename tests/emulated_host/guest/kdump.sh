#!/bin/sh
# init of a guest: crashes into a second kernel (crashkernel=), which runs pmu.sh and resets; after
# that it is this one again.
# shellcheck source=tests/emulated_host/guest/begin.sh
. /begin.sh
pmu_lines
line="$(sed 's/crashkernel=[^ ]*//' /proc/cmdline) irqpoll"
if crash_kernel /vmlinuz /pmu.cpio "$line"; then
  echo GUEST-CRASHES
  sleep 2
  echo c >/proc/sysrq-trigger
fi
