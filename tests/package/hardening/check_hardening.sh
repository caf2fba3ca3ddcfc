#!/bin/sh
# SPDX-License-Identifier: MIT
# check_hardening.sh library|program FILE IMPORT...
# A built file is hardened: full RELRO, no executable stack, nothing writable and executable, no
# text relocation, a program is position independent; each source of it was compiled with
# -fstack-protector-strong and -fcf-protection (the compiler notes them in the debug information);
# and it imports the functions named, which only the hardened form of its code calls
# (__stack_chk_fail, __snprintf_chk, std::__glibcxx_assert_fail). The flags that leave no trace in
# a file are check_flags.sh's.
set -eu
kind=$1 file=$2
shift 2
bad=0
complain() {
  echo "$file: $*"
  bad=1
}

segments=$(readelf -lW "$file")
dynamic=$(readelf -dW "$file")
echo "$segments" | grep -q '^  GNU_RELRO ' || complain 'no GNU_RELRO segment'
echo "$dynamic" | grep -E '\((FLAGS|FLAGS_1|BIND_NOW)\)' | grep -qwE 'BIND_NOW|NOW' ||
  complain 'not bound at load time (BIND_NOW): the RELRO is partial'
[ "$(echo "$segments" | awk '$1 == "GNU_STACK" { print $7 }')" = RW ] ||
  complain 'the stack is executable'
if echo "$segments" | grep -qE '^  LOAD .* RWE '; then
  complain 'a segment is writable and executable'
fi
case $dynamic in *TEXTREL*) complain 'has text relocations' ;; esac
if [ "$kind" = program ] && ! echo "$dynamic" | grep -q 'Flags:.*PIE'; then
  complain 'not position independent (PIE)'
fi

imports=$(nm -D --undefined-only "$file" | sed 's/.* [Uwv] //; s/@.*//')
for import; do
  echo "$imports" | grep -qxF "$import" || complain "does not import $import"
done

producers=$(readelf --debug-dump=info --dwarf-depth=1 "$file" |
  sed -n 's/.*DW_AT_producer.*: \(GNU C.*\)/\1/p' | sort -u)
[ -n "$producers" ] || complain 'no debug information of GCC that says how it was compiled'
for flag in -fstack-protector-strong -fcf-protection=full; do
  if echo "$producers" | grep -qv -e "$flag"; then complain "a source was compiled without $flag"; fi
done
[ $bad = 0 ] && echo "$file: hardened"
exit $bad
