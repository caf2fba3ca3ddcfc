#!/bin/sh
# SPDX-License-Identifier: MIT
# deb_modes.sh PACKAGE.deb
# A .deb is an ar archive of three files, made by cpack with the modes that the caller's umask left.
# Sets each to 100644, in place. The header of a file (ar(5)) is 60 bytes: its mode is at 40, its size
# at 48; what follows is padded to an even size.
set -eu
deb=$1
at=8
for file in debian-binary control.tar data.tar; do
  name=$(dd if="$deb" bs=1 skip="$at" count=16 status=none)
  case $name in "$file"*) ;; *) echo "$deb: '$name' where $file should be" >&2 && exit 1 ;; esac
  printf '100644  ' | dd of="$deb" bs=1 seek=$((at + 40)) conv=notrunc status=none
  size=$(dd if="$deb" bs=1 skip=$((at + 48)) count=10 status=none)
  size=${size%% *}
  at=$((at + 60 + size + size % 2))
done
