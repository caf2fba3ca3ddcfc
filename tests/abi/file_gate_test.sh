#!/bin/sh
# SPDX-License-Identifier: MIT
# file_gate_test.sh CASE
# Builds a small plugin that is as files.txt would have it but for one fault, and expects
# check_file.sh to name just that. Exit status: 0 as expected, 1 not, 77 no compiler.
set -eu
here=$(dirname "$0")
command -v cc >/dev/null || { echo 'SKIPPED: no cc here'; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

code='const void* vmm_plugin_v1(void); const void* vmm_plugin_v1(void) { return memchr("x", 1, 1); }'
flags='' complaint='' name=small.so
case $1 in
nothing) ;;
exports_too_much)
  code="$code int helper(void); int helper(void) { return 1; }"
  complaint='exports: T helper;T vmm_plugin_v1;' ;;
exports_a_variable)
  code="$code int helper = 1;"
  complaint='exports: D helper;T vmm_plugin_v1;' ;;
exports_nothing) flags=-fvisibility=hidden complaint='exports: ;' ;;
needs_libm) flags='-Wl,--no-as-needed -lm' complaint='needs libm.so.6, allowed: libc.so.6' ;;
rpath) flags='-Wl,-rpath,/opt -Wl,--disable-new-dtags' complaint='has RPATH' ;;
runpath) flags='-Wl,-rpath,/opt -Wl,--enable-new-dtags' complaint='has RUNPATH' ;;
soname) flags=-Wl,-soname,small.so.1 complaint="has SONAME 'small.so.1', allowed: ''" ;;
executable_stack) flags='-z execstack' complaint='stack is RWE' ;;
text_relocation)
  code="$code int* data(void) __attribute__((visibility(\"hidden\")));
    static int number; int* data(void) { return &number; }"
  flags='-fno-pic -mcmodel=large -Wl,-z,notext' complaint='has TEXTREL' ;;
new_glibc)
  code="#include <string.h>
    const void* vmm_plugin_v1(void);
    const void* vmm_plugin_v1(void) { static char c; explicit_bzero(&c, 1); return &c; }"
  complaint='needs GLIBC_2.25, allowed: GLIBC_2.14' ;;
family_without_a_line)
  flags='-Wl,--no-as-needed -lgcc_s' complaint='needs GCC_3.0, allowed:'
  code="$code extern void _Unwind_Resume(void*); __attribute__((visibility(\"hidden\")))
    void stop(void); void stop(void) { _Unwind_Resume(0); }" ;;
not_in_the_list) name=other.so complaint='has no line for other.so' ;;
*)
  echo "no case $1" >&2
  exit 2 ;;
esac
cat >"$dir/files.txt" <<'LIST'
small.so exports vmm_plugin_v1
small.so needs   libc.so.6
small.so version GLIBC_2.14
LIST
[ "$1" != family_without_a_line ] || echo 'small.so needs libgcc_s.so.1' >>"$dir/files.txt"

# shellcheck disable=SC2086 # several flags
printf '#include <string.h>\n%s\n' "$code" |
  cc -x c -shared -fPIC -O1 -fno-builtin - -o "$dir/$name" $flags
status=0
said=$("$here/check_file.sh" "$dir/files.txt" "$dir/$name") || status=$?
echo "$said"
if [ -z "$complaint" ]; then exit "$status"; fi
[ "$status" = 1 ] || { echo "exit status $status, expected 1"; exit 1; }
# this fault and no other
[ "$(echo "$said" | wc -l)" = 1 ] || [ "$1" = text_relocation ] || exit 1
case $said in *"$complaint"*) ;; *) echo "expected: $complaint"; exit 1 ;; esac
