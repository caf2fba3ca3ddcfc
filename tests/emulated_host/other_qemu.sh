#!/usr/bin/env bash
# Makes FOLDER/SUITE/root.cpio: QEMU of another Debian suite with its libraries, to be run in the host
# by chroot /SUITE, and in /product the files of BUILD:
#   bash tests/emulated_host/other_qemu.sh FOLDER BUILD SUITE
# Fetched once. Exit status 77, with a line "SKIPPED: reason", where it cannot be had.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/emulated_host/suite.sh
. "$here/suite.sh"
(($# == 3)) || { echo "usage: $0 FOLDER BUILD SUITE" >&2; exit 2; }
folder=$1 build=$(realpath "$2") suite=$3
mkdir -p "$folder/$suite"
folder=$(cd "$folder" && pwd)
work=$folder/$suite root=$folder/$suite/root/$suite
exec {lock}>"$folder/$suite.lock"
flock "$lock"
[[ -e $build/plugin/svm_pmu.so && -e $build/host_preload/vmm-run ]] ||
  cannot "no plugin in $build: cmake --build $build"

if [[ ! -e $work/fetched ]]; then
  room_for 800 "$folder"
  apt_suite "$folder" "$suite"
  rm -rf "$work/root"
  mkdir -p "$root"
  "${APT[@]}" install -y --download-only --no-install-recommends qemu-system-x86 bash coreutils \
    >"$work/log" 2>&1 || cannot "no QEMU of Debian $suite: $(grep -E '^E:' "$work/log" | head -n 1)"
  for deb in "$folder/apt-$suite"/cache/archives/*.deb; do dpkg-deb -x "$deb" "$root"; done
  rm -f "$folder/apt-$suite"/cache/archives/*.deb
  # it goes into memory: what no guest of these needs is left out
  find "$root/usr/share" -mindepth 1 -maxdepth 1 ! -name qemu ! -name seabios -exec rm -rf {} +
  find "$root/usr/share/qemu" -mindepth 1 ! -name '*.bin' ! -name '*.rom' -delete 2>/dev/null ||
    true # folders that are not empty
  find "$root/usr/bin" ! -type d ! -name qemu-system-x86_64 ! -name bash ! -name env -delete
  rm -rf "${root:?}"/{var,etc,boot} "$root"/usr/{libexec,src,sbin} \
    "$root"/usr/lib/{systemd,udev} "$root"/usr/lib/python* \
    "$root"/usr/lib/x86_64-linux-gnu/{systemd,gconv,perl}
  mkdir -p "$root"/{dev,proc,sys,tmp,guests,product,usr/sbin,etc}
  touch "$work/fetched"
fi
rm -rf "$root/product"
mkdir "$root/product"
cp "$build"/host_preload/{vmm-run,libvmm_preload.so} "$build/plugin/svm_pmu.so" "$root/product/"
strip -g "$root"/product/*
(cd "$work/root" && find . | cpio -o -H newc --quiet) >"$work/root.cpio"
