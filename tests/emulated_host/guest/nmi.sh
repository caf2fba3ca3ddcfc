#!/bin/sh
# init of a guest: load for 16 seconds, in which counters that were left running overflow; then four
# sampling events and a reset while they run.
# shellcheck source=tests/emulated_host/guest/begin.sh
. /begin.sh
pmu_lines
sampling 16
unknown_nmis
echo GUEST-DONE
sampling 2 reset
