#!/usr/bin/env bash
# Does each patch still fit Debian's source package, as it is now? Fetches the packages that are not
# in FOLDER yet:
#   bash integrations/qemu/check_patches.sh [FOLDER]
# FOLDER is build/emulated_host if it is not given. test.sh builds and runs them. Exit status 1: one
# does not fit; 77, with a line "SKIPPED: reason": a package cannot be had.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$here/../../build/emulated_host}
status=0
for version in 7.2 10.0; do
  one=0
  bash "$here/source.sh" "$version" "$folder" && bash "$here/check_patch.sh" "$version" "$folder" ||
    one=$?
  ((one == 0 || status == 1)) || status=$one
done
exit "$status"
