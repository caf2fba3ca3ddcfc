#!/usr/bin/env bash
# Applies qemu-VERSION.patch to the files that it changes, of Debian's source package in FOLDER, without
# unpacking the rest:
#   bash integrations/qemu/check_patch.sh 7.2|10.0 FOLDER
# Nothing is fetched. Exit status 77, with a line "SKIPPED: reason", where the package is not there.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
(($# == 2)) || { echo "usage: $0 7.2|10.0 FOLDER" >&2; exit 2; }
patch=$here/qemu-$1.patch
folder=
for each in "$2/qemu-$1" "$2/qemu"; do
  ! compgen -G "$each/qemu_$1*.debian.tar.xz" >/dev/null || folder=$(realpath "$each")
done
if [[ ! $folder ]]; then
  echo "SKIPPED: no source of QEMU $1 in $2: bash integrations/qemu/source.sh $1 $2"
  exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mapfile -t files < <(sed -n 's/^+++ b\///p' "$patch")
tar -xJf "$(echo "$folder"/qemu_"$1"*.orig.tar.xz)" -C "$work" --strip-components=1 \
  --wildcards "${files[@]/#/*/}"
tar -xJf "$(echo "$folder"/qemu_"$1"*.debian.tar.xz)" -C "$work"
cd "$work"
while read -r each; do # of most files that Debian's patches change there is none here
  patch -s -f -p1 -r - --no-backup-if-mismatch <"debian/patches/$each" >log 2>&1 || true
done < <(grep -vE '^ *(#|$)' debian/patches/series)
patch -f -p1 --fuzz=0 <"$patch" >log || { cat log; exit 1; }
echo "$(basename "$patch") applies to $(basename "$folder"/qemu_"$1"*.dsc): $(
  grep -c '^+[^+]' "$patch") lines added, empty ones not counted, and $(
  grep -c '^-[^-]' "$patch") taken away"
