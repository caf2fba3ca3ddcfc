#!/usr/bin/env bash
# AppArmor, on an emulated AMD host whose kernel enforces it:
#   bash tests/emulated_host/run.sh -- bash tests/libvirt/apparmor.sh
# QEMU runs under the profile that libvirt makes for a domain (its own TEMPLATE.qemu and
# abstractions), with the product where the package installs it and /etc/vmm-plugins.conf. With the
# package's file for that profile the guest's vPMU is off and nothing of ours is denied; without it
# the denial must be said. Needs the package apparmor, whose profiles run.sh takes along. The host is
# thrown away afterwards.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
build=$source/build/release
[[ -e /etc/emulated_host ]] || { echo "SKIPPED: this runs in an emulated host"; exit 77; }
for file in /sbin/apparmor_parser /usr/bin/aa-exec /etc/apparmor.d/libvirt/TEMPLATE.qemu; do
  [[ -e $file ]] || { echo "SKIPPED: no $file: apparmor and libvirt are not installed"; exit 77; }
done
mount -t securityfs none /sys/kernel/security 2>/dev/null || true
[[ $(cat /sys/module/apparmor/parameters/enabled 2>/dev/null) == Y ]] || {
  echo "SKIPPED: this kernel has no AppArmor"
  exit 77
}

libraries=/usr/lib/x86_64-linux-gnu
preload=$libraries/vmm-preload/libvmm_preload.so
mkdir -p "$libraries"/{vmm-preload,vmm/plugins}
cp "$build/host_preload/libvmm_preload.so" "$preload"
cp "$build/plugin/svm_pmu.so" "$libraries/vmm/plugins"
cp "$build/host_preload/vmm-run" /usr/bin
printf '[program qemu-system-*]\nplugin = %s,pmu-cap-disabled=on\n' \
  "$libraries/vmm/plugins/svm_pmu.so" >/etc/vmm-plugins.conf

fragments=/etc/apparmor.d/abstractions/libvirt-qemu.d
mkdir -p "$fragments"
load() { # NAME INCLUDE: a domain's profile, with what virt-aa-helper adds for its files
  sed -e "s/LIBVIRT_TEMPLATE/$1/" -e "s|^}|  /guests/* r,\n  /tmp/$1.* rw,\n$2\n}|" \
    /etc/apparmor.d/libvirt/TEMPLATE.qemu >"/etc/apparmor.d/libvirt/$1"
  apparmor_parser --replace --skip-cache "/etc/apparmor.d/libvirt/$1"
}
denied() { # NAME
  dmesg | sed -n "/apparmor=\"DENIED\".*profile=\"$1\"/s/.* name=\"\([^\"]*\)\".*/\1/p" | sort -u
}
start() { # NAME COMMAND...: QEMU under that profile, until its guest is up or 120 s; its last words
  local name=$1
  shift
  : >"/tmp/$name.serial"
  "$@" /usr/bin/qemu-system-x86_64 -nodefaults -display none -accel kvm -cpu host -m 256 \
    -kernel /guests/vmlinuz-6.1 -initrd /guests/pmu.cpio -serial "file:/tmp/$name.serial" \
    -append 'console=ttyS0 panic=-1 nokaslr' </dev/null >"/tmp/$name.said" 2>&1 &
  for ((i = 0; i < 120; i++)); do
    ! grep -a -q ^GUEST-DONE "/tmp/$name.serial" || break
    kill -0 $! 2>/dev/null || break
    sleep 1
  done
  kill -9 $! 2>/dev/null || true
  wait $! 2>/dev/null || true
  tr -d '\r' <"/tmp/$name.serial" | sed -n "s/.*\(Performance Events:.*\)/$name: \1/p" |
    sort -u
  sed "s/^/$name: /" "/tmp/$name.said"
  denied "$name" | sed "s/^/$name: denied /"
}
failures=0
fail() {
  echo "FAILED: $1"
  failures=$((failures + 1))
}
pmu_is_off() { # NAME
  grep -a -q 'PMU not available due to virtualization' "/tmp/$1.serial" || fail "$1: the PMU is on"
  ! denied "$1" | grep -E 'vmm|svm' || fail "$1: the profile denies something of ours"
}

load without ''
LD_PRELOAD=$preload start without aa-exec -p without --
denied without | grep -q '/etc/vmm-plugins.conf' || fail "nothing was denied without the rules"
grep -q '/etc/vmm-plugins.conf.*Permission denied' /tmp/without.said || fail "and that is not said"
! grep -a -q '^GUEST' /tmp/without.serial || fail "the guest runs although it is not protected"

# as Debian's newer abstraction includes it, and as a line in local/ does
cp "$source/host_preload/libvirt/apparmor-libvirt-qemu" "$fragments/svm-pmu"
load with '  #include <abstractions/libvirt-qemu.d/svm-pmu>'
export LD_PRELOAD=$preload
start with aa-exec -p with --
pmu_is_off with
unset LD_PRELOAD
# the launcher as the domain's emulator
start with aa-exec -p with -- /usr/bin/vmm-run --library "$preload" --
pmu_is_off with

((failures == 0)) || exit 1
echo "AppArmor: with the package's rules the library, the plugin and the configuration are read"
