# shellcheck shell=sh
# Sourced by each init of a guest: what it needs, and its first line, GUEST-UP, which begins a boot.
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
echo "GUEST-UP Linux $(uname -r), CPUs: $(grep -c ^processor /proc/cpuinfo)"
pmu_lines() {
  dmesg | sed 's/^\[[^]]*\] //' |
    grep -i -E 'Performance Events|Firmware Bug|NMI watchdog|Uhhuh|Broken BIOS|unchecked MSR'
}
unknown_nmis() {
  dmesg | sed 's/^\[[^]]*\] //' | grep -i -E 'Uhhuh|Dazed'
}
# GUEST-DONE is what the host waits for, and the last line of a boot; sysrq-b is a reset while the
# PMU runs. The second is for the serial port, which is slower than the reset.
reset() {
  echo GUEST-DONE
  sleep 1
  echo b >/proc/sysrq-trigger
}
