#!/usr/bin/env bash
# Domains of a real libvirtd with the preload host, by each way that the preload host's README names:
#   bash tests/libvirt/run.sh BUILD_FOLDER [WAY...]
# Ways: environment emulator host divert hook status; all if none is given.
# Domains are of type kvm where /dev/kvm opens. Elsewhere, and with SVM_PMU_LIBVIRT_TYPE=qemu, they
# are emulated and /dev/kvm is hidden: then it is seen that the library is in the process and does
# not disturb; no VM of KVM is there to be fixed.
#
# libvirtd runs as root in name spaces of its own, over copies of /etc, /usr/bin and of libvirt's and
# dpkg's folders: the machine stays as it was. Where that cannot be: "SKIPPED: reason", status 77.
set -euo pipefail

skip() {
  echo "SKIPPED: $1"
  exit 77
}

here=$(cd "$(dirname "$0")" && pwd)
build=$(realpath "${1:?usage: run.sh BUILD_FOLDER [WAY...]}")
shift
all_ways=(environment emulator host divert hook status)
ways=("$@")
((${#ways[@]})) || ways=("${all_ways[@]}")

# ---- outside: make the name spaces
if [[ ${SVM_PMU_LIBVIRT_INSIDE:-} != 1 ]]; then
  ((EUID == 0)) || skip "libvirtd is run as root here"
  for program in libvirtd virsh qemu-system-x86_64 unshare dpkg-divert; do
    PATH=$PATH:/usr/sbin command -v "$program" >/dev/null || skip "$program is not installed"
  done
  state=$(mktemp -d)
  trap 'rm -rf "$state"' EXIT
  if ! unshare --mount --pid --net --fork --kill-child --mount-proc \
    sh -c "mount -t tmpfs none '$state' && mkdir '$state/u' '$state/w' &&
      mount -t overlay none -o 'lowerdir=/etc,upperdir=$state/u,workdir=$state/w' /etc" 2>"$state/why"; then
    skip "no name spaces or no overlay file system: $(tail -n 1 "$state/why")"
  fi
  status=0
  SVM_PMU_LIBVIRT_INSIDE=1 SVM_PMU_LIBVIRT_STATE=$state \
    unshare --mount --pid --net --fork --kill-child --mount-proc \
    bash "$here/run.sh" "$build" "${ways[@]}" || status=$?
  exit "$status"
fi

# ---- inside: this shell is process 1, and all ends with it
state=$SVM_PMU_LIBVIRT_STATE
mount -t tmpfs none "$state"
overlay() { # FOLDER: what is written to it stays in here
  local name=${1//\//_}
  mkdir -p "$state/$name/upper" "$state/$name/work"
  mount -t overlay none \
    -o "lowerdir=$1,upperdir=$state/$name/upper,workdir=$state/$name/work" "$1"
}
for folder in /etc /usr/bin /var/lib/dpkg; do overlay "$folder"; done
mkdir -p /run/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt
for folder in /run /var/lib/libvirt /var/cache/libvirt /var/log/libvirt; do
  mount -t tmpfs none "$folder"
done
mkdir -p /var/lib/libvirt/{images,qemu} /etc/libvirt/hooks

# where QEMU's user can read them
files=$state/files
mkdir -m 755 "$files"
cp "$build"/host_preload/{libvmm_preload.so,vmm-run} "$build"/plugin/{svm_pmu.so,tool/svm-pmu} "$files"
library=$files/libvmm_preload.so
plugin=svm_pmu.so # found beside the library
vmm_run=$files/vmm-run
qemu=/usr/bin/qemu-system-x86_64
log=$state/plugin.log
conf=/etc/vmm-plugins.conf
options=pmu-cap-disabled=off

type=qemu
if [[ ${SVM_PMU_LIBVIRT_TYPE:-kvm} == qemu ]]; then
  mkdir "$state/dev"
  mount -t tmpfs none "$state/dev"
  (cd /dev && cp -a null zero full random urandom tty ptmx "$state/dev")
  mkdir "$state/dev/pts" "$state/dev/shm" "$state/dev/net"
  ln -s /proc/self/fd "$state/dev/fd"
  mount --rbind /dev/pts "$state/dev/pts"
  mount --move "$state/dev" /dev
elif { : <>/dev/kvm; } 2>/dev/null; then type=kvm; fi
echo "domains are of type $type; libvirt $(libvirtd --version | awk '{print $NF}')," \
  "$("$qemu" --version | head -n 1)"

user=libvirt-qemu group=libvirt-qemu
if ! getent passwd "$user" >"$state/passwd" || ! getent group "$group" >"$state/group"; then
  user=root group=root
fi
if [[ $type == kvm && $user != root ]]; then
  # the device's own permissions are the machine's business
  cp -a /dev/kvm "$state/kvm"
  chown "$user" "$state/kvm"
  mount --bind "$state/kvm" /dev/kvm
fi
cat >/etc/libvirt/qemu.conf <<END
user = "$user"
group = "$group"
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
remember_owner = 0
END
cat >/etc/libvirt/libvirtd.conf <<END
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_rw_perms = "0700"
END

failures=0
fail() {
  echo "FAILED: $way: $1"
  failures=$((failures + 1))
}
virsh() { command virsh --quiet --connect qemu:///system "$@" </dev/null; }

# ---- libvirtd
libvirtd_pid=
start_libvirtd() { # [NAME=VALUE...]: of its environment
  env "$@" libvirtd >"$state/libvirtd.log" 2>&1 &
  libvirtd_pid=$!
  for ((try = 0; try < 600; try++)); do
    virsh list >"$state/list" 2>&1 && return
    kill -0 "$libvirtd_pid" 2>/dev/null || break
    sleep 0.1
  done
  cat "$state/libvirtd.log" "$state/list"
  fail "libvirtd does not answer"
  exit 1
}
stop_libvirtd() {
  kill "$libvirtd_pid" 2>/dev/null || true
  wait "$libvirtd_pid" 2>/dev/null || true
  rm -rf /var/cache/libvirt/qemu # what it knows of emulators
}

# ---- domains
define() { # NAME [EMULATOR [XML [FEATURES]]]
  local namespace=
  [[ -z ${3:-} ]] || namespace="xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"
  cat >"$state/$1.xml" <<END
<domain type='$type' $namespace>
  <name>$1</name>
  <memory unit='MiB'>64</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <features><acpi/>${4:-}</features>
  <cpu mode='custom' match='exact' check='none'><model fallback='forbid'>qemu64</model></cpu>
  <devices>
    <emulator>${2:-$qemu}</emulator>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
  </devices>
  ${3:-}
</domain>
END
  virsh define "$state/$1.xml"
}
domain_pid() { cat "/run/libvirt/qemu/$1.pid"; }
events() { # PATTERN: how many of the log's lines have it
  grep -c -- "$1" "$log" 2>/dev/null || true
}
await_more() { # PATTERN COUNT: the log gets more of them than that
  for ((try = 0; try < 300; try++)); do
    (($(events "$1") > $2)) && return
    sleep 0.1
  done
  return 1
}
is_mapped() { grep -q libvmm_preload "/proc/$1/maps"; }

# What a running domain has to show: the library, and with KVM the plugin's hook for this process.
expect_protected() { # NAME WHEN
  local pid
  pid=$(domain_pid "$1")
  is_mapped "$pid" || fail "$2: the library is not in the process"
  [[ $type == kvm ]] || return 0
  await_more "vmm_preload\[$pid/.*vm_created vm=.* plugin=svm_pmu result=0" 0 ||
    fail "$2: vm_created was not called"
}

live() { # NAME: defined before
  local name=$1 before
  virsh start "$name" || { fail "start"; return; }
  expect_protected "$name" start
  if [[ $type == kvm ]]; then
    # a vCPU that has not run yet needs no reset
    sleep 1
    before=$(events "vmm_preload\[$(domain_pid "$name")/.*vcpu_reset vm=.* result=0")
    virsh reset "$name" || fail "reset"
    await_more "vmm_preload\[$(domain_pid "$name")/.*vcpu_reset vm=.* result=0" "$before" ||
      fail "reset: vcpu_reset was not called"
  else
    virsh reset "$name" || fail "reset"
  fi
  if virsh managedsave "$name"; then
    virsh start "$name" || fail "restore"
    expect_protected "$name" restore
  else
    fail "managedsave"
  fi
  virsh destroy "$name" || fail "destroy"
}

taint_of() { # NAME: what libvirt says of its support
  grep -o "tainted: .*" "$state/libvirtd.log" | grep -v "high-privileges" | tail -n 1 || true
}

begin() {
  way=$1
  rm -f "$log" "$conf"
  : >"$log"
  chmod 666 "$log"
}
finish() { # what was seen
  local domain
  for domain in $(virsh list --all --name); do
    virsh destroy "$domain" >/dev/null 2>&1 || true
    virsh undefine --managed-save "$domain" >/dev/null
  done
  echo "$way: vm_created $(events 'vm_created vm=.* plugin=svm_pmu result=0')," \
    "vcpu_reset $(events 'vcpu_reset vm=.* result=0'); libvirt's taint: ${taint:-none}"
  stop_libvirtd
}
whole_host() { # the configuration that the package's README shows
  cat >"$conf" <<END
log = $log
[program qemu-system-*]
plugin = $plugin,$options
[vm left-out]
plugin =
END
  "$vmm_run" --check -- "$qemu" >/dev/null 2>&1 || [[ $type != kvm ]] || fail "vmm-run --check"
}

# ---- the ways

# the variables in the domain's XML
way_environment() {
  start_libvirtd
  define guest "$qemu" "<qemu:commandline>
    <qemu:env name='LD_PRELOAD' value='$library'/>
    <qemu:env name='VMM_PLUGINS' value='$plugin,$options'/>
    <qemu:env name='VMM_PRELOAD_LOG' value='$log'/>
  </qemu:commandline>"
  live guest
  taint=$(taint_of guest)
  [[ $taint == *custom-argv* ]] || fail "libvirt was expected to taint the domain"
}

# a script as the domain's emulator
way_emulator() {
  whole_host
  printf '#!/bin/sh\nexec %s -- %s "$@"\n' "$vmm_run" "$qemu" >/usr/bin/qemu-with-plugins
  chmod 755 /usr/bin/qemu-with-plugins
  start_libvirtd
  virsh domcapabilities --emulatorbin /usr/bin/qemu-with-plugins --virttype "$type" >"$state/caps" ||
    fail "domcapabilities"
  define guest /usr/bin/qemu-with-plugins
  live guest
  taint=$(taint_of guest)
}

# the library in libvirtd's environment, the rest in /etc: no XML changes
way_host() {
  whole_host
  start_libvirtd LD_PRELOAD="$library"
  define guest
  live guest
  define left-out
  virsh start left-out
  local pid
  pid=$(domain_pid left-out)
  is_mapped "$pid" || fail "left-out: the library is not in the process"
  ((!$(events "vmm_preload\[$pid/.*vm_created"))) || fail "left-out: it has a plugin"
  virsh destroy left-out
  ((!$(events "vmm_preload\[$libvirtd_pid/.*vm_created"))) || fail "libvirtd itself has a plugin"
  # a bad line ends the start of a domain, and says where it is
  echo "bogus = 1" >>"$conf"
  if [[ $type == kvm ]]; then
    ! virsh start guest >"$state/refused" 2>&1 || fail "a bad line did not refuse the domain"
    grep -q "$conf:6: 'bogus': use plugin" /var/log/libvirt/qemu/guest.log ||
      fail "the domain's log does not name the bad line"
  fi
  taint=$(taint_of guest)
}

# the emulator's place, taken by a script
way_divert() {
  whole_host
  dpkg-divert --quiet --local --rename --divert "$qemu.real" --add "$qemu"
  printf '#!/bin/sh\nexec %s -- %s.real "$@"\n' "$vmm_run" "$qemu" >"$qemu"
  chmod 755 "$qemu"
  start_libvirtd
  define guest
  live guest
  taint=$(taint_of guest)
  rm "$qemu"
  dpkg-divert --quiet --local --rename --remove "$qemu"
}

# a domain that should be protected and is not does not start
way_hook() {
  [[ $type == kvm ]] || { echo "hook: not run: no domain of type kvm"; start_libvirtd; return; }
  whole_host
  mkdir -p /etc/libvirt/hooks/qemu.d
  ln -s "$here/../../host_preload/libvirt/svm-pmu-hook" /etc/libvirt/hooks/qemu.d/svm-pmu
  ln -s "$vmm_run" "$files/svm-pmu" /usr/bin/
  start_libvirtd # without the library: nothing is protected
  define guest
  define left-out
  if virsh start guest >"$state/refused" 2>&1; then fail "an unprotected domain started"; fi
  grep -q "svm-pmu: .*guest.* is not protected" "$state/refused" ||
    fail "libvirt does not say why the domain was refused"
  grep -v '^$' "$state/refused"
  virsh start left-out || fail "a domain that the file leaves out was refused"
  stop_libvirtd
  start_libvirtd LD_PRELOAD="$library"
  virsh start guest || fail "a protected domain was refused"
  virsh destroy guest
  # ld.so ignores a library that it may not open, with one line in the domain's log
  if [[ $user != root ]]; then
    chmod 600 "$library"
    if virsh start guest >"$state/refused" 2>&1; then fail "an unreadable library was not seen"; fi
    grep -q "svm-pmu: .*guest.* is not protected" "$state/refused" ||
      fail "libvirt does not say why the domain with the unreadable library was refused"
    chmod 755 "$library"
  fi
  rm /etc/libvirt/hooks/qemu.d/svm-pmu
}

# svm-pmu status tells apart: a domain without PMU, one with, and one that runs without the library
# because its user may not read it
way_status() {
  [[ $type == kvm ]] || { echo "status: not run: no domain of type kvm"; start_libvirtd; return; }
  options=pmu-cap-disabled=auto whole_host
  start_libvirtd LD_PRELOAD="$library"
  define off "$qemu" '' "<pmu state='off'/>"
  define on
  define forgotten "$qemu" "<qemu:commandline><qemu:env name='LD_PRELOAD' value=''/></qemu:commandline>"
  virsh start off || fail "start off"
  virsh start on || fail "start on"
  status_of 0 && expect_status off yes && expect_status on yes
  if [[ $user != root ]]; then # ld.so ignores what it may not open
    chmod 600 "$library"
    define unreadable
    virsh start unreadable || fail "start unreadable"
    chmod 755 "$library"
    status_of 1 && expect_status unreadable no
    virsh destroy unreadable
  fi
  virsh start forgotten || fail "start forgotten"
  status_of 1 && expect_status off yes && expect_status on yes && expect_status forgotten no
  cat "$state/status"
}
status_of() { # EXIT_STATUS: asks, of all VMs of these name spaces
  local status=0
  "$files/svm-pmu" status --require-plugin >"$state/status" || status=$?
  "$files/svm-pmu" status --require-plugin --json >"$state/status.json" || true
  ((status == $1)) || { fail "svm-pmu status ended with $status, not $1"; cat "$state/status"; return 1; }
}
expect_status() { # NAME yes|no; a host that has neither bug says not-needed for yes
  python3 -c 'import json, sys
vms = {vm["name"]: vm["protected"] for vm in json.load(open(sys.argv[1]))["vms"]}
said = "yes" if vms.get(sys.argv[2]) == "not-needed" else vms.get(sys.argv[2])
sys.exit(0 if said == sys.argv[3] else f"{sys.argv[2]}: {vms}")' \
    "$state/status.json" "$1" "$2" || fail "svm-pmu status has $1 not as '$2'"
}

for each in "${ways[@]}"; do
  [[ " ${all_ways[*]} " == *" $each "* ]] || { echo "no way '$each'; there are: ${all_ways[*]}"; exit 2; }
  taint=
  begin "$each"
  "way_$each"
  finish
done
((failures == 0)) || exit 1
echo "libvirt: all of ${ways[*]} passed"
