#!/bin/sh
# SPDX-License-Identifier: MIT
# check_layout.sh INCLUDE_DIR GOLDEN COMPILER LANGUAGE [FLAG...]
# Holds vmm/plugin.h and vmm/guest_pmu.h to a golden layout without running anything, so that -m32 needs no 32-bit
# library: every line becomes an assertion. Also: the golden file must know each member (no gap
# between members, none at the end: hidden padding would hide an append) and each constant.
# Exit status 77 with "SKIPPED: reason" where the compiler or its headers are not there.
set -eu
include_dir=$1 golden=$2 compiler=$3 language=$4
shift 4
headers="$include_dir/vmm/plugin.h $include_dir/vmm/guest_pmu.h"

command -v "$compiler" >/dev/null || { echo "SKIPPED: no $compiler here"; exit 77; }
echo '#include <stdint.h>' | "$compiler" -x "$language" "$@" -fsyntax-only - >/dev/null 2>&1 ||
  { echo "SKIPPED: $compiler $* finds no <stdint.h>"; exit 77; }

awk '
  function finish() {
    if (name == "" || next_offset == size) return
    print name ": ends at " next_offset " of " size
    bad = 1
  }
  $1 == "size" { finish(); name = $2; size = $3; next_offset = 0 }
  $1 == "member" {
    if ($3 != next_offset) { print $2 ": at " $3 ", expected " next_offset; bad = 1 }
    next_offset = $3 + $4
  }
  END { finish(); exit bad }
' "$golden"

# shellcheck disable=SC2086 # two files
sed -n 's/^#define \(VMM_[A-Z0-9_]*\) .*/\1/p' $headers | sort -u | while read -r constant; do
  [ "$constant" = VMM_PLUGIN_EXPORT ] && continue
  grep -q " $constant " "$golden" || { echo "$constant is not in $golden"; exit 1; }
done
# shellcheck disable=SC2086
sed -n 's/^struct \([a-z_]*\) {$/\1/p' $headers | while read -r struct; do
  grep -q "^size $struct " "$golden" || { echo "struct $struct is not in $golden"; exit 1; }
done

{
  echo '#include <stddef.h>'
  echo '#include <vmm/guest_pmu.h>'
  awk '
    function assert(condition) { printf "typedef char line_%d[(%s) ? 1 : -1];\n", NR, condition }
    { split($2, path, ".") }
    $1 == "size" { assert("sizeof(struct " $2 ") == " $3) }
    $1 == "member" {
      assert("offsetof(struct " path[1] ", " path[2] ") == " $3 \
             " && sizeof(((struct " path[1] "*)0)->" path[2] ") == " $4)
    }
    $1 == "value" { assert($2 " == " $3) }
  ' "$golden"
} | "$compiler" -x "$language" "$@" -I"$include_dir" -fsyntax-only -
echo "$(wc -l <"$golden") lines of $golden hold: $compiler $language $*"
