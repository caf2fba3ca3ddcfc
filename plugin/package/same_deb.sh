#!/bin/sh
# SPDX-License-Identifier: MIT
# same_deb.sh PACKAGE.deb
# Makes cpack's package anew, in place: cpack adds the sizes of folders to Installed-Size, which differ
# between file systems, and leaves the caller's umask in the archive's own modes. Installed-Size is
# what dpkg-gencontrol writes: KiB, each file rounded up, one for each folder. Dates are at most
# SOURCE_DATE_EPOCH.
set -eu
deb=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
dpkg-deb --raw-extract "$deb" "$root"
size=$(find "$root" -mindepth 1 -path "$root/DEBIAN" -prune -o -type f -printf '%s\n' -o -printf '1\n' |
  awk '{ size += int(($1 + 1023) / 1024) } END { print size }')
sed -i "s/^Installed-Size: .*/Installed-Size: $size/" "$root/DEBIAN/control"
grep -q "^Installed-Size: $size\$" "$root/DEBIAN/control"
dpkg-deb --root-owner-group -Zxz --threads-max=1 --build "$root" "$work/deb" >/dev/null
cat "$work/deb" >"$deb"
