#!/usr/bin/env bash
# Fetches Debian's source package of a QEMU into FOLDER/qemu-VERSION, unless it is there:
#   bash integrations/qemu/source.sh 7.2|10.0 FOLDER
# Exit status 77, with a line "SKIPPED: reason", where it cannot be had.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/emulated_host/suite.sh
. "$here/../../tests/emulated_host/suite.sh"
declare -A suites=([7.2]=bookworm [10.0]=trixie)
case $#${1:-} in
  27.2 | 210.0) ;;
  *) echo "usage: $0 7.2|10.0 FOLDER" >&2; exit 2 ;;
esac
mkdir -p "$2/qemu-$1"
folder=$(realpath "$2")
cd "$folder/qemu-$1"
compgen -G "qemu_$1*.dsc" >/dev/null && exit 0
room_for 200 "$folder"
apt_suite "$folder" "${suites[$1]}"
"${APT[@]}" source --download-only qemu >log 2>&1 ||
  cannot "no source of QEMU $1 of Debian ${suites[$1]}: $(tail -n 1 log)"
compgen -G "qemu_$1*.dsc" >/dev/null ||
  cannot "Debian ${suites[$1]} has $(echo qemu_*.dsc), not QEMU $1"
