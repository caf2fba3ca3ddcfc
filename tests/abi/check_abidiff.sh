#!/bin/sh
# SPDX-License-Identifier: MIT
# check_abidiff.sh SOURCE INCLUDE_DIR RECORDED_ABI [SED_EDIT STATUS]
# Compares the debug information of SOURCE, built with the header of INCLUDE_DIR, with a recorded
# ABI. An alarm, no judge: abidiff's report is printed, and only what it calls incompatible (bit 8,
# or 1 and 2: it could not tell) fails; a legal append and a changed parameter are both just
# "changed" (4) to it, which header_gate.py tells apart. With SED_EDIT header and source are edited
# before, and abidiff must exit with STATUS.
#
# The records were made with g++ 12's C compiler and abigail-tools 2.2 by
#   cc -g -shared -fPIC -I v1.N typed_entry.c -o typed_entry.so
#   abidw --no-corpus-path --no-comp-dir-path --no-show-locs --no-elf-needed \
#     --out-file v1.N/plugin.abi typed_entry.so
set -eu
source=$1 include_dir=$2 recorded=$3
for tool in abidiff cc; do
  command -v $tool >/dev/null || { echo "SKIPPED: no $tool here"; exit 77; }
done
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/vmm"
sed "${4:-}" "$include_dir/vmm/plugin.h" >"$dir/vmm/plugin.h"
sed "${4:-}" "$source" >"$dir/typed_entry.c"
if [ $# = 5 ] && cmp -s "$include_dir/vmm/plugin.h" "$dir/vmm/plugin.h"; then
  echo "the edit changes nothing: $4"
  exit 1
fi

cc -g -shared -fPIC -I"$dir" "$dir/typed_entry.c" -o "$dir/typed_entry.so"
status=0
abidiff "$recorded" "$dir/typed_entry.so" || status=$?
echo "abidiff: exit status $status (4 = changed, 8 = incompatible)"
if [ $# = 5 ]; then
  [ $status = "$5" ] || { echo "expected: $5"; exit 1; }
else
  [ $((status & ~4)) = 0 ]
fi
