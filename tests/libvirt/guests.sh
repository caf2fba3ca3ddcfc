#!/usr/bin/env bash
# What the guests of libvirt's domains see of it, on an emulated AMD host with a live vPMU:
#   bash tests/emulated_host/run.sh -- bash tests/libvirt/guests.sh
# A domain that was started before the preload host was switched on for the whole host, then two
# with it, one of which has <pmu state='off'/>. Each guest boots twice, with a reset while its PMU
# counts. What they say, and what svm-pmu status says of them and of a domain whose user cannot read
# the library. The host is thrown away afterwards: nothing is put back.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
build=$source/build/release
type -P libvirtd virsh >/dev/null || { echo "SKIPPED: libvirt is not installed"; exit 77; }
[[ -e /etc/emulated_host ]] || { echo "SKIPPED: this runs in an emulated host"; exit 77; }

user=libvirt-qemu
echo "$user:x:64055:64055::/:/bin/false" >>/etc/passwd
echo "$user:x:64055:" >>/etc/group
chown "$user:$user" /dev/kvm
[[ -e /var/run ]] || { mkdir -p /run /var && ln -s /run /var/run; }
mkdir -p /run/libvirt /var/{lib,cache,log}/libvirt/qemu /usr/lib/vmm/plugins /etc/libvirt
library=/usr/lib/vmm/libvmm_preload.so
cp "$build/host_preload/libvmm_preload.so" "$library"
cp "$build/plugin/svm_pmu.so" /usr/lib/vmm/plugins
cp "$build/plugin/tool/svm-pmu" /usr/bin
cat >/etc/libvirt/qemu.conf <<END
user = "$user"
group = "$user"
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
remember_owner = 0
END
printf 'auth_unix_ro = "none"\nauth_unix_rw = "none"\n' >/etc/libvirt/libvirtd.conf
cat >/etc/vmm-plugins.conf <<END
log = /tmp/plugin.log
[program qemu-system-*]
plugin = svm_pmu.so,pmu-cap-disabled=auto
END
open_file() { # FILE: that QEMU's user may write
  : >"$1"
  chmod 666 "$1"
}
open_file /tmp/plugin.log

failures=0
fail() {
  echo "FAILED: $1"
  failures=$((failures + 1))
}
say() { echo "[$SECONDS s] $1"; }
virsh() { LC_ALL=C command virsh --quiet --connect qemu:///system "$@" </dev/null; }

libvirtd_pid=
start_libvirtd() { # [NAME=VALUE...]: of its environment
  if [[ $libvirtd_pid ]]; then
    kill "$libvirtd_pid"
    wait "$libvirtd_pid" || true
  fi
  say "libvirtd ${*:-without the library}"
  env "$@" libvirtd >/tmp/libvirtd.log 2>&1 &
  libvirtd_pid=$!
  for ((i = 0; i < 120; i++)); do
    virsh list >/tmp/list 2>&1 && return
    kill -0 "$libvirtd_pid" 2>/dev/null || break
    sleep 1
  done
  cat /tmp/libvirtd.log /tmp/list
  echo "FAILED: libvirtd does not answer"
  exit 1
}
define() { # NAME [FEATURE]
  open_file "/tmp/$1"
  cat >"/tmp/$1.xml" <<END
<domain type='kvm'>
  <name>$1</name>
  <memory unit='MiB'>256</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>/guests/vmlinuz-6.1</kernel>
    <initrd>/guests/pmu.cpio</initrd>
    <cmdline>console=ttyS0 panic=-1 nokaslr sysrq_always_enabled nmi_watchdog=1 memory_corruption_check=0</cmdline>
  </os>
  <features><acpi/>${2:-}</features>
  <cpu mode='host-passthrough' check='none'/>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    <serial type='file'><source path='/tmp/$1'/></serial>
  </devices>
</domain>
END
  virsh define "/tmp/$1.xml"
}
boot_twice() { # NAME: after that it stands still, and leaves the processor to others
  say "virsh start $1"
  virsh start "$1" || { fail "$1 does not start"; return; }
  for ((i = 0; i < 240; i++)); do
    (($(grep -a -c '^GUEST-DONE' "/tmp/$1") < 2)) || break
    sleep 1
  done
  virsh suspend "$1" || fail "$1 has ended"
  sed -i -e 's/\r//' -e 's/^\[ *[0-9.]*\] //' "/tmp/$1"
  awk '/^GUEST-UP/ { ++boot } { print > (FILENAME "." (boot ? boot : 0)) }' "/tmp/$1"
  grep -a -E '^(GUEST-UP|CYCLES)|Broken BIOS|PMU (driver|not)' "/tmp/$1" | sed "s/^/$1: /"
}
says() { # NAME BOOT LINE
  grep -a -q -- "$3" "/tmp/$1.$2" 2>/dev/null || fail "$1, boot $2: no '$3'"
}
never_says() { # NAME LINE
  ! grep -a -q -- "$2" "/tmp/$1" || fail "$1: '$2'"
}

# ---- before the preload host is switched on
start_libvirtd
define unprotected
boot_twice unprotected
says unprotected 2 'Broken BIOS detected, complain to your hardware vendor.'

# ---- switched on: the domain that runs goes on without it
start_libvirtd LD_PRELOAD="$library"
define counting
define without-pmu "<pmu state='off'/>"
boot_twice counting
says counting 1 'CYCLES counted'
says counting 2 'CYCLES counted'
never_says counting 'Broken BIOS'
boot_twice without-pmu
says without-pmu 1 'PMU not available due to virtualization, using software events only.'
says without-pmu 2 'PMU not available due to virtualization, using software events only.'
never_says without-pmu 'CYCLES counted'

# ---- which is which
status=0
svm-pmu status >/tmp/status || status=$?
cat /tmp/status
((status == 1)) || fail "svm-pmu status: exit status $status in place of 1"
line() { grep -q -E "^[0-9]+ +qemu-system-x86_64 +$1 +$2" /tmp/status || fail "status of $1"; }
line unprotected 'no +-'
line counting 'yes +reset'
line without-pmu 'yes +off'
virsh destroy unprotected
svm-pmu status >/tmp/status || fail "svm-pmu status: exit status $? in place of 0"

# ---- a library that QEMU's user cannot read
chmod 600 "$library"
define unreadable
virsh start unreadable
status=0
svm-pmu status >/tmp/status || status=$?
((status == 1)) || fail "an unreadable library: exit status $status in place of 1"
line unreadable 'no +-'
grep -A 3 ' unreadable ' /tmp/status
virsh destroy unreadable

virsh destroy counting
virsh destroy without-pmu
kill "$libvirtd_pid"
((failures == 0)) || exit 1
echo "libvirt: each guest has what its domain says"
