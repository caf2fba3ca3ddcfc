#!/usr/bin/env bash
# The self-contained files on another distribution, with its own QEMU. Run by hand, as root:
#   bash tests/package/other_system.sh SUITE MIRROR [FOLDER]
# makes a minimal system of SUITE (trixie: Debian 13, jammy: Ubuntu 22.04) from MIRROR, its archive, in
# a temporary folder (in FOLDER, where it is used again the next time); puts the release build's
# self-contained files there and runs the end-to-end tests of resets and of what the guest sees.
# Takes some minutes; exit status 77, with a line "SKIPPED: reason", where it cannot be done.
set -euo pipefail
cd "$(dirname "$0")/../.."

skip() {
  echo "SKIPPED: $1"
  exit 77
}
(($# == 2 || $# == 3)) || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
suite=$1 mirror=$2 kept=${3:-}
((EUID == 0)) || skip "not root"
[[ -c /dev/kvm ]] || skip "no /dev/kvm"
command -v debootstrap >/dev/null || skip "no debootstrap"
built=build/release
[[ -e $built/self_contained/svm_pmu.so ]] || skip "no $built/self_contained: build the release preset"

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
  debootstrap --variant=minbase "$suite" "$root" "$mirror" >"$work/log" 2>&1 ||
    skip "debootstrap from $mirror: $(tail -n 1 "$work/log")"
  touch "$work/ready"
fi
in_root sh -c 'apt-get update -qq && apt-get install -qq -y --no-install-recommends \
  qemu-system-x86 qemu-utils python3' >"$work/log" 2>&1 || skip "$(tail -n 1 "$work/log")"

# ---- the files; the simulated KVM's shim is a tool of the tests and has no self-contained form
rm -rf "$root/tmp/there"
mkdir -p "$root/tmp/there/lib"
cp -r "$built/self_contained" tests/e2e "$root/tmp/there"
cp "$built"/tests/e2e/{guest.elf,libsim_shim.so} "$root/tmp/there"
ldd "$built/tests/e2e/libsim_shim.so" | awk '/libfmt/ { print $3 }' |
  xargs -I{} cp -L {} "$root/tmp/there/lib"
[[ -e $root/dev/kvm ]] || mknod -m 666 "$root/dev/kvm" c 10 232
mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"

# shellcheck disable=SC2016 # for the shell in there
in_root sh -c '. /etc/os-release; echo "$PRETTY_NAME, $(getconf GNU_LIBC_VERSION)"
  qemu-system-x86_64 --version | head -n 1
  /tmp/there/self_contained/vmm-run --plugin svm_pmu.so --check -- qemu-system-x86_64'
for test in hook_counts pmu_seen_by_guest; do
  in_root env LD_LIBRARY_PATH=/tmp/there/lib python3 -B /tmp/there/e2e/$test.py \
    --preload /tmp/there/self_contained/libvmm_preload.so \
    --plugin /tmp/there/self_contained/svm_pmu.so --vmm-run /tmp/there/self_contained/vmm-run \
    --guest /tmp/there/guest.elf --shim /tmp/there/libsim_shim.so
done
echo "self-contained files: as expected there"
