#!/usr/bin/env bash
# Builds a patched QEMU from Debian's source package, the smallest that the test needs, as
# BUILD/integrations/qemu/qemu-VERSION:
#   bash integrations/qemu/build.sh VERSION BUILD [FOLDER]
# VERSION is 7.2 (Debian 12) or 10.0 (Debian 13), BUILD the build folder of this project, FOLDER keeps
# sources (default: build/emulated_host). The lines of README.md's first block are run. 7.2 gets the
# emulated PMU of tests/emulated_host, too. What was built before is kept until a patch, libvmm_host's
# header or Debian's package changes. Exit status 77, with a line "SKIPPED: reason", where it cannot be
# done.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
emulated=$source/tests/emulated_host
# shellcheck source=tests/emulated_host/suite.sh
. "$emulated/suite.sh"
case $#${1:-} in
  [23]7.2 | [23]10.0) ;;
  *) echo "usage: $0 7.2|10.0 BUILD [FOLDER]" >&2; exit 2 ;;
esac
VERSION=$1 folder=${3:-$source/build/emulated_host}
build=$(realpath "$2")
mkdir -p "$folder" "$build/integrations/qemu"
folder=$(realpath "$folder")
work=$folder/qemu-$VERSION result=$build/integrations/qemu/qemu-$VERSION
exec {lock}>"$work.lock"
flock "$lock"
[[ -e $build/abi/host_kit/libvmm_host.so ]] || cannot "no libvmm_host in $build: cmake --build $build"

bash "$here/source.sh" "$VERSION" "$folder"
# each line after the one before it: "set -e" means nothing in a condition
# shellcheck disable=SC2016 # backquotes as such
lines=$(sed -n '/^```sh$/,/^```$/{/^```/!p;/^```$/q}' "$here/README.md" | sed '$!s/$/ \&\&/')
made_of=$({ echo "$lines"
  cat "$here/qemu-$VERSION.patch" "$here/build.sh" "$work"/*.dsc \
    "$emulated/qemu_patch/amd_pmu.patch" "$source/abi/include/vmm/host.h"
} | sha256sum)
[[ ! -x $result || $(cat "$result.made_of" 2>/dev/null) != "$made_of" ]] || exit 0
room_for 1500 "$folder"

rm -rf "$work"/{source,prefix,tools}
dpkg-source --no-check -x "$work"/*.dsc "$work/source" >"$work/log" 2>&1 ||
  cannot "Debian's source of QEMU $VERSION does not unpack: $(tail -n 1 "$work/log")"
QEMU=$work/source
# shellcheck disable=SC2034 # in the lines of README.md
PREFIX=$work/prefix
echo CONFIG_Q35=y >"$QEMU/configs/devices/x86_64-softmmu/smallest.mak"
compiler=cc
! command -v ccache >/dev/null || compiler='ccache cc'
OPTIONS=(--cc="$compiler" --enable-tcg --without-default-features --without-default-devices
  --with-devices-x86_64=smallest --disable-werror --disable-debug-info --disable-tools
  --disable-docs --disable-install-blobs --extra-ldflags="-Wl,-rpath,$build/abi/host_kit")
if [[ $VERSION == 7.2 ]]; then
  patch -s -d "$QEMU" -p1 <"$emulated/qemu_patch/amd_pmu.patch"
elif ! printf '1.5.0\n%s\n' "$(meson --version 2>/dev/null)" | sort -CV; then
  # QEMU 10 wants a newer meson than Debian 12's
  apt_suite "$folder" bookworm-backports
  mkdir "$work/tools"
  (cd "$work/tools" && "${APT[@]}" download meson && dpkg-deb -x meson_*.deb .) >>"$work/log" 2>&1 ||
    cannot "no meson 1.5 or later: $(tail -n 1 "$work/log")"
  export PATH=$work/tools/usr/bin:$PATH PYTHONPATH=$work/tools/usr/lib/python3/dist-packages
  OPTIONS+=(--python=/usr/bin/python3)
fi
cd "$source"
if ! (eval "$lines") >>"$work/log" 2>&1; then
  tail -n 20 "$work/log"
  echo "QEMU $VERSION could not be built; the log is $work/log"
  exit 1
fi
strip -g -o "$result" "$QEMU/build/qemu-system-x86_64"
rm -rf "$work"/{source,tools}
echo "$made_of" >"$result.made_of"
