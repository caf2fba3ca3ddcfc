#!/bin/sh
# SPDX-License-Identifier: MIT
# compile_header.sh INCLUDE_DIR HEADER COMPILER LANGUAGE STANDARD [FLAG...]
# Compiles a file that includes only HEADER (twice), with warnings as errors. Exit status 77 with a
# line "SKIPPED: reason" where the compiler or its headers are not there.
set -eu
include_dir=$1 header=$2 compiler=$3 language=$4 standard=$5
shift 5

skip() {
  echo "SKIPPED: $*"
  exit 77
}
compile() {
  "$compiler" -x "$language" "-std=$standard" "$@" -fsyntax-only -
}

others_than() {
  others=$(grep '^ *# *include' "$include_dir/$header" | grep -vF "$1" || true)
  [ -z "$others" ] || { echo "$header includes more than $1: $others"; exit 1; }
}

command -v "$compiler" >/dev/null || skip "no $compiler here"
echo 'typedef int t;' | compile >/dev/null 2>&1 || skip "$compiler has no $language $standard"

case " $* " in
*' -m32 '*)
  case $header in
  vmm/plugin.h | vmm/guest_pmu.h | vmm/host.h | vmm/vm_state.h) system_header='stdint.h' ;; # with -ffreestanding the compiler's own
  *) system_header='linux/kvm.h' ;;
  esac
  echo "#include <$system_header>" | compile "$@" >/dev/null 2>&1 ||
    skip "$compiler -m32 finds no <$system_header>: no headers for 32 bit here"
  ;;
esac

if [ "$header" = vmm/plugin.h ]; then
  # Nobody else's types: the contract is whole with <stdint.h>.
  others_than '<stdint.h>'
  # What only <linux/kvm.h> fills with padding it may; our own structs have none.
  set -- "$@" -Wpadded
  use='vmm_plugin_entry use_entry(void); vmm_plugin_entry use_entry(void) { return vmm_plugin_v1; }'
elif [ "$header" = vmm/guest_pmu.h ]; then
  others_than '<vmm/plugin.h>'
  set -- "$@" -Wpadded
  use='struct vmm_guest_pmu use_table(void); struct vmm_guest_pmu use_table(void) {
    struct vmm_guest_pmu table = {sizeof table, VMM_GUEST_PMU_UNSAID, 0}; return table; }'
elif [ "$header" = vmm/host.h ]; then
  others_than '<vmm/'
  set -- "$@" -Wpadded
  use='const char* use_version(void); const char* use_version(void) {
    struct vmm_host_vm_config config = {sizeof config, VMM_GUEST_PMU_OFF, 3, 4, 1, 0};
    return config.max_vcpus == 1 ? vmm_host_version() : 0; }'
elif [ "$header" = vmm/plugin_helper.h ]; then
  use='int32_t use_result(void); int32_t use_result(void) { return vmm_result(1); }'
elif [ "$header" = vmm/vm_state.h ]; then
  others_than '<stdint.h>'
  set -- "$@" -Wpadded
  use='const char* use_id(void); const char* use_id(void) { return VMM_VM_STATE_ID; }'
else
  use='unsigned use_number(void); unsigned use_number(void) { return VMM_KVM_SET_MSRS; }'
fi
compile "$@" -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror -I"$include_dir" <<EOF
#include <$header>
#include <$header>
$use
EOF
echo "$header compiles: $compiler $standard $*"
