#!/usr/bin/env bash
# Builds the patched QEMUs and lets them run guests in emulated AMD hosts:
#   bash integrations/qemu/test.sh [BUILD]
# BUILD is the build folder of this project (default: build/release). in_host.sh says what is looked
# at. Exit status 77, with a line "SKIPPED: reason", where it cannot be done.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
build=$(realpath "${1:-$source/build/release}")
out=$build/integrations/qemu
mkdir -p "$out"

for version in 7.2 10.0; do
  bash "$here/build.sh" "$version" "$build" || exit $?
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cc -m32 -c -x assembler "$here/guest.S" -o "$work/guest.o"
# without headers in memory: they would lie in the BIOS, and a reset would put them there again
ld -m elf_i386 -N --no-warn-rwx-segments -z noexecstack -Ttext=0x100000 \
  --section-start=.note.pvh=0x108000 -e start -o "$out/guest.elf" "$work/guest.o"

status=0
for host in '' '--perfmonv2 6'; do
  read -ra words <<<"$host"
  echo "== an emulated host, Linux 6.12 ${host}"
  one=0
  bash "$source/tests/emulated_host/run.sh" --kernel 6.12 "${words[@]}" --suite sid --build "$build" \
    -- bash integrations/qemu/in_host.sh || one=$?
  ((one == 0 || one == 77 && status != 0)) || status=$one
done
exit "$status"
