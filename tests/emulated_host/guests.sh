#!/usr/bin/env bash
# Makes the guests' root file systems, FOLDER/guests/NAME.cpio, one of each init in guest/:
#   bash tests/emulated_host/guests.sh FOLDER
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
(($# == 1)) || { echo "usage: $0 FOLDER" >&2; exit 2; }
mkdir -p "$1/guests"
folder=$(cd "$1" && pwd)/guests
exec {lock}>"$folder.lock"
flock "$lock"
made_of=$(cat "$here"/guest/* "$here/guests.sh" | sha256sum)
[[ $(cat "$folder/made_of" 2>/dev/null) != "$made_of" ]] || exit 0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{bin,proc,sys,dev}
for program in cycles sampling crash_kernel; do
  cc -O1 -static -o "$root/bin/$program" "$here/guest/$program.c"
done
cp /usr/bin/busybox "$root/bin/"
for name in sh mount dmesg grep sed sleep echo cat uname; do ln -s busybox "$root/bin/$name"; done
cp "$here/guest/begin.sh" "$root/"

pack() { # NAME
  install -m 755 "$here/guest/$1.sh" "$root/init"
  (cd "$root" && find . | cpio -o -H newc --quiet) >"$folder/$1.cpio"
}
pack pmu
pack nmi
cp "$folder/pmu.cpio" "$root/"
if [[ -e $folder/../kernels/6.1/vmlinuz ]]; then
  cp "$folder/../kernels/6.1/vmlinuz" "$root/"
  pack kdump
fi
echo "$made_of" >"$folder/made_of"
