#!/bin/sh
# SPDX-License-Identifier: MIT
# layout_gate_test.sh INCLUDE_DIR GOLDEN CASE
# check_layout.sh on copies of the headers that someone broke: each is refused, an untouched one is not.
set -eu
include_dir=$1 golden=$2 case=$3
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cp -r "$include_dir/vmm" "$dir/vmm"
plugin=$dir/vmm/plugin.h guest_pmu=$dir/vmm/guest_pmu.h

case $case in
nothing) ;;
members_swapped)
  sed -i 's/(\*hide_cpuid)/(*swapped)/; s/(\*get_supported_cpuid)/(*hide_cpuid)/;
    s/(\*swapped)/(*get_supported_cpuid)/' "$plugin" ;;
mask_widened) sed -i 's/uint32_t mask; /uint64_t mask; /' "$plugin" ;;
register_renumbered) sed -i 's/VMM_CPUID_ECX ((uint32_t)2)/VMM_CPUID_ECX ((uint32_t)4)/' "$plugin" ;;
table_reordered) sed -i 's/  uint32_t reserved;/  uint64_t reserved;/' "$guest_pmu" ;;
*) echo "no case $case" && exit 2 ;;
esac
if [ "$case" != nothing ] && diff -r "$include_dir/vmm" "$dir/vmm" >/dev/null; then
  echo "the edit of $case changes nothing"
  exit 1
fi

status=0
"$(dirname "$0")/check_layout.sh" "$dir" "$golden" gcc c -m64 || status=$?
case $case:$status in
*:77) exit 77 ;;
nothing:0) ;;
nothing:* | *:0) echo "$case: check_layout.sh ended with $status" && exit 1 ;;
esac
