#!/usr/bin/env bash
# The release build's files on another Debian. Run by hand, as root:
#   bash tests/package/other_system.sh SUITE [FOLDER]
# makes a minimal system of SUITE (bullseye, bookworm, trixie, sid) from the archive that this
# machine's apt names, in a temporary folder (in FOLDER, where it is used again the next time), and
# runs the files of build/release there: what needs no KVM; with the suite's own QEMU, and where
# /dev/kvm opens, the end-to-end tests of resets and of what the guest sees. Then it installs the
# packages of build/package, uses and purges them; on bookworm, where those of 1.0.0 are in
# build/package-1.0.0 (previous_release.sh makes them), these are replaced. Ends with one line for a
# table. Takes some minutes; exit status 77, with a line "SKIPPED: reason", where it cannot be done.
set -euo pipefail
cd "$(dirname "$0")/../.."

skip() {
  echo "SKIPPED: $1"
  exit 77
}
(($# == 1 || $# == 2)) || { sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2; }
suite=$1 kept=${2:-}
((EUID == 0)) || skip "not root"
command -v debootstrap >/dev/null || skip "no debootstrap"
built=build/release
[[ -e $built/host_stub/host_stub ]] || skip "no $built/host_stub/host_stub: build the release preset"
archive=$(cat /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null |
  grep -v '^#' | grep -oE 'https?://[^ ]*/debian/?' | head -n 1 || true)
[[ $archive ]] || skip "the apt sources of this machine name no Debian archive"

if [[ $kept ]]; then
  mkdir -p "$kept"
  work=$(realpath "$kept")
else
  work=$(mktemp -d)
fi
root=$work/root
trap '! mountpoint -q "$root/proc" || umount "$root/proc"
  [[ $kept ]] || rm -rf --one-file-system "$work"' EXIT
in_root() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root \
  DEBIAN_FRONTEND=noninteractive "$@"; }
if [[ ! -e $work/ready ]]; then
  rm -rf --one-file-system "$root"
  debootstrap --variant=minbase "$suite" "$root" "$archive" >"$work/log" 2>&1 ||
    skip "debootstrap of $suite: $(tail -n 1 "$work/log")"
  # an archive's copy may be older than its word on how long it holds
  in_root sh -c 'apt-get update -qq -o Acquire::Check-Valid-Until=false && apt-get install -qq -y --no-install-recommends \
    qemu-system-x86 qemu-utils python3' >"$work/log" 2>&1 || skip "$(tail -n 1 "$work/log")"
  touch "$work/ready"
fi
mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"

there=$root/opt/svm_pmu
rm -rf "$there"
mkdir -p "$there"
cp -r "$built"/host_preload/{vmm-run,libvmm_preload.so} "$built"/plugin/{svm_pmu.so,tool/svm-pmu} \
  "$built"/host_stub/host_stub "$built"/tests/e2e/{guest.elf,libsim_shim.so} tests/e2e "$there"
# shellcheck disable=SC2016 # for the shell in there
in_root sh -c '. /etc/os-release; printf "%s, glibc %s, " "$PRETTY_NAME" "$(getconf GNU_LIBC_VERSION |
  cut -d" " -f2)"; qemu-system-x86_64 --version | head -n 1'

# ---- what needs no KVM. check NAME COMMAND...: a column of the table
row="$suite"
check() {
  local name=$1
  shift
  if in_root "$@" >"$work/log" 2>&1; then
    row+=" | $name: yes"
  else
    row+=" | $name: NO"
    sed 's/^/  /' "$work/log" | tail -n 20
    bad=1
  fi
}
bad=0
kvm=
if (: <>/dev/kvm) 2>/dev/null; then
  kvm=yes
  [[ -e $root/dev/kvm ]] || mknod -m 666 "$root/dev/kvm" c 10 232
fi
# shellcheck disable=SC2016 # for the shell in there
expect='out=$("$@" 2>&1); status=$?; [ $status = "$0" ] || { echo "$out"; exit 1; }'
if [[ $kvm ]]; then
  check 'vmm-run --check' /opt/svm_pmu/vmm-run --plugin /opt/svm_pmu/svm_pmu.so --check -- \
    qemu-system-x86_64
fi
check 'validate' /opt/svm_pmu/host_stub validate --plugin /opt/svm_pmu/svm_pmu.so
check 'both fixes' sh -c "$expect" 0 /opt/svm_pmu/host_stub run --plugin /opt/svm_pmu/svm_pmu.so \
  --kvm sim:linux-5.10 --scenario boot,perf,reset,boot
# shellcheck disable=SC2016 # for the shell in there
check 'probe' sh -c 'out=$("$@"); echo "$out"; echo "$out" | grep -q "CPU vendor"' \
  - /opt/svm_pmu/host_stub probe --kvm sim:linux-5.10 --plugin /opt/svm_pmu/svm_pmu.so
check 'svm-pmu' sh -c '/opt/svm_pmu/svm-pmu explain "Uhhuh. NMI received for unknown reason 30 on CPU 0."'
check 'dlopen 1000 times' python3 -c 'import _ctypes
for _ in range(1000): _ctypes.dlclose(_ctypes.dlopen("/opt/svm_pmu/svm_pmu.so", 2))'
# Boost throws, the plugin catches
# shellcheck disable=SC2016 # for the shell in there
check 'an error that unwinds' sh -c 'out=$("$@" 2>&1); echo "$out"; echo "$out" | grep -q nonsense' \
  - /opt/svm_pmu/host_stub run --plugin /opt/svm_pmu/svm_pmu.so --options nonsense=1

# ---- with its QEMU, on this machine's KVM
plain=0
[[ ! $kvm ]] || in_root timeout 60 qemu-system-x86_64 -accel kvm -cpu qemu64 -m 64 -display none \
  -no-reboot -S -kernel /opt/svm_pmu/guest.elf -monitor stdio <<<quit >/dev/null 2>&1 || plain=$?
if [[ ! $kvm ]]; then
  row+=" | with QEMU: SKIPPED: no /dev/kvm"
elif ((plain)); then
  row+=" | with QEMU: SKIPPED: it ends with $plain on the tests' guest, without any plugin"
else
  for test in hook_counts pmu_seen_by_guest; do
    check "$test" python3 -B /opt/svm_pmu/e2e/$test.py \
      --preload /opt/svm_pmu/libvmm_preload.so --plugin /opt/svm_pmu/svm_pmu.so \
      --vmm-run /opt/svm_pmu/vmm-run --guest /opt/svm_pmu/guest.elf \
      --shim /opt/svm_pmu/libsim_shim.so
  done
fi

# ---- the packages
if compgen -G 'build/package/*.deb' >/dev/null; then
  mkdir -p "$there/new"
  cp build/package/*.deb "$there/new"
  installed=(bash /opt/svm_pmu/check_installed.sh /opt/svm_pmu/new)
  what='packages'
  if [[ $suite == bookworm ]] && compgen -G 'build/package-1.0.0/*.deb' >/dev/null; then
    cp -r build/package-1.0.0 "$there/old"
    installed+=(/opt/svm_pmu/old)
    what='packages, upgrade'
  fi
  cp tests/package/check_installed.sh "$there"
  check "$what" "${installed[@]}"
  sed 's/^/  /' "$work/log"
else
  row+=" | packages: SKIPPED: none in build/package"
fi
echo "$row"
exit $bad
