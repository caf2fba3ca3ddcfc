#!/usr/bin/env bash
# Builds QEMU with the emulated AMD core PMU, the smallest that serves, as
# FOLDER/qemu/qemu-system-x86_64:
#   bash tests/emulated_host/qemu.sh FOLDER
# from Debian 12's source package and qemu_patch/; 3 to 4 minutes on two cores. What was built
# before is kept until the patch, this script or the version of Debian's package changes. Exit
# status 77, with a line "SKIPPED: reason", where it cannot be done.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/emulated_host/suite.sh
. "$here/suite.sh"
(($# == 1)) || { echo "usage: $0 FOLDER" >&2; exit 2; }
mkdir -p "$1"
folder=$(cd "$1" && pwd)
work=$folder/qemu
exec {lock}>"$folder/qemu.lock"
flock "$lock"

installed=$(dpkg-query -W -f '${Version}' qemu-system-x86 2>/dev/null || true)
made_of=$(cat "$here"/qemu_patch/amd_pmu.patch "$here"/qemu.sh | sha256sum)" $installed"
if [[ -x $work/qemu-system-x86_64 && $(cat "$work/made_of" 2>/dev/null) == "$made_of" ]]; then
  exit 0
fi
room_for 800 "$folder"
rm -rf "$work" "$folder/apt-bookworm/done"
mkdir -p "$work"
apt_suite "$folder" bookworm
cd "$work"
{ "${APT[@]}" source --download-only qemu && dpkg-source --no-check -x qemu_*.dsc source; } \
  >log 2>&1 || cannot "no source of Debian's QEMU: $(tail -n 1 log)"
patch -s -d source -p1 <"$here/qemu_patch/amd_pmu.patch" ||
  { echo "qemu_patch/amd_pmu.patch does not apply to $(echo qemu_*.dsc)"; exit 1; }
echo CONFIG_Q35=y >source/configs/devices/x86_64-softmmu/amdhost.mak

compiler=cc
! command -v ccache >/dev/null || compiler='ccache cc'
mkdir build
cd build
if ! { ../source/configure --cc="$compiler" --target-list=x86_64-softmmu --enable-tcg \
  --without-default-features --without-default-devices --with-devices-x86_64=amdhost \
  --disable-werror --disable-debug-info --disable-tools --disable-docs --disable-install-blobs \
  --disable-qom-cast-debug && ninja qemu-system-x86_64; } >../log 2>&1; then
  tail -n 20 ../log
  echo "QEMU could not be built; the log is $work/log"
  exit 1
fi
strip -g -o ../qemu-system-x86_64 qemu-system-x86_64
rm -rf "$work"/{source,build}
echo "$made_of" >../made_of
