#!/usr/bin/env bash
# The packages on a Debian 12 with nothing else in it. Run by hand, as root:
#   bash tests/package/bare_debian.sh [FOLDER]
# makes the packages with the prefix /usr (into build/package) and lets lintian look at them; makes a
# minimal Debian in a temporary folder (in FOLDER, where it is used again the next time); installs
# the packages there with apt; follows abi/PLUGINS.md with a compiler, CMake and pkg-config from
# installed files alone; renders the manual pages; runs the programs; purges, and looks for what is
# left. Takes some minutes and needs a Debian mirror; exit status 77, with a line "SKIPPED: reason",
# where it cannot be done.
set -euo pipefail
cd "$(dirname "$0")/../.."

skip() {
  echo "SKIPPED: $1"
  exit 77
}
((EUID == 0)) || skip "not root"
for tool in debootstrap lintian help2man dpkg-shlibdeps; do
  command -v $tool >/dev/null || skip "no $tool"
done
mirror=$(sed -nE 's/^(URIs:|deb( \[[^]]*\])?) *(https?:\/\/[^ ]*debian) *(bookworm.*)?$/\3/p' \
  /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -n 1) || true
[[ $mirror ]] || skip "no Debian mirror among the sources of apt"

# ---- the packages
cmake --preset package >/dev/null
cmake --build --preset package >/dev/null
rm -f build/package/*.deb
cpack --preset package >/dev/null
lintian --allow-root --fail-on error --suppress-tags initial-upload-closes-no-bugs build/package/*.deb
echo "packages made, lintian has no errors"

# ---- a bare Debian
if (($#)); then
  mkdir -p "$1"
  work=$(realpath "$1")
else
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
fi
root=$work/root
in_root() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root \
  DEBIAN_FRONTEND=noninteractive "$@"; }
if [[ ! -e $work/ready ]]; then
  debootstrap --variant=minbase bookworm "$root" "$mirror" >"$work/log" 2>&1 ||
    skip "debootstrap from $mirror: $(tail -n 1 "$work/log")"
  touch "$work/ready"
fi
in_root apt-get update -qq
files() { (cd "$root" && find . -xdev \( -path ./proc -o -path ./sys -o -path ./dev -o -path ./var \
  -o -path ./etc/ld.so.cache -o -path ./tmp -o -path ./root \) -prune -o -print | sort); }

# ---- the runtime package alone, with no recommendations
in_root apt-get install -qq -y man-db >/dev/null 2>&1
cp build/package/*.deb "$root/tmp"
files >"$work/before"
# shellcheck disable=SC2016 # for the shell in there
in_root sh -ec 'apt-get install -qq -y --no-install-recommends /tmp/svm-pmu_*.deb >/dev/null 2>&1
  vmm-run --version
  host_stub --version
  plugin=$(dpkg -L svm-pmu | grep "/svm_pmu.so$")
  host_stub run --quiet --plugin "$plugin" --scenario boot,perf,reset,boot
  ! host_stub run --quiet --scenario boot,perf,reset,boot >/dev/null
  # the page that dpkg installed, or, where minimal systems leave pages out, that of the package
  dpkg-deb --fsys-tarfile /tmp/svm-pmu_*.deb | tar -x -C /tmp ./usr/share/man
  for page in /tmp/usr/share/man/man?/*; do
    [ -z "$(man --warnings -l "$page" 2>&1 >/tmp/page)" ] && [ -s /tmp/page ]
  done
  rm -r /tmp/usr /tmp/page'
if [[ -c /dev/kvm ]]; then
  mkdir -p "$root/dev"
  [[ -e $root/dev/kvm ]] || mknod -m 666 "$root/dev/kvm" c 10 232
  mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"
  trap 'umount "$root/proc"; (($#)) || rm -rf "$work"' EXIT
  in_root vmm-run --plugin svm_pmu.so --log stderr -- printenv LD_PRELOAD VMM_PLUGINS
else
  echo "left out: vmm-run --plugin, no /dev/kvm"
fi
in_root apt-get purge -qq -y svm-pmu >/dev/null 2>&1
files >"$work/after"
diff "$work/before" "$work/after" || { echo "svm-pmu leaves files behind"; exit 1; }
echo "svm-pmu: installed, run, purged without a trace"

# ---- the development package: the guide, with what is installed
in_root sh -c 'apt-get install -qq -y --no-install-recommends gcc libc6-dev make pkg-config cmake \
  /tmp/svm-pmu_*.deb /tmp/libvmm-host1_*.deb /tmp/svm-pmu-dev_*.deb >/dev/null 2>&1'
mkdir -p "$root/tmp/consumer"
cp tests/package/consumer/*.sh abi/PLUGINS.md "$root/tmp/consumer"
in_root bash /tmp/consumer/follow_page.sh /tmp/consumer/PLUGINS.md /tmp/guide
in_root bash -ec 'dpkg -L svm-pmu-dev | grep -q /examples/Makefile$
  bash /tmp/consumer/build_example.sh make /usr/share/doc/svm-pmu-dev/examples /tmp/made'
rm -rf "$root/tmp/consumer" "$root/tmp/guide" "$root/tmp/made"
rm -f "$root"/usr/lib/*/vmm/plugins/reset_count.so # the guide installed it
in_root apt-get purge -qq -y svm-pmu-dev libvmm-host1 svm-pmu >/dev/null 2>&1
left=$(files | grep -E '/(svm[-_]pmu|host_stub|vmm|libvmm[-_]host)([-./]|$)' || true)
[[ -z $left ]] || { echo "left behind: $left"; exit 1; }
echo "svm-pmu-dev: guide and examples followed from installed files, purged without a trace"
