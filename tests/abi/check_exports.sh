#!/bin/sh
# SPDX-License-Identifier: MIT
# check_exports.sh [-g GLIBC_MAX] FILE ALLOWED_NEEDED...
# What a plugin's file must be: exports vmm_plugin_v1 and nothing else; needs only the libraries
# named (a name may be a pattern, 'libboost_program_options.so.*'); no SONAME, RPATH, TEXTREL,
# executable stack, "do not dlopen" flag. -g: highest symbol version of glibc that it may need.
set -eu
glibc_max=
if [ "$1" = -g ]; then
  glibc_max=$2
  shift 2
fi
file=$1
shift
bad=0
complain() {
  echo "$file: $*"
  bad=1
}

exports=$(nm -D --defined-only "$file" | awk '{ print $(NF - 1), $NF }')
[ "$exports" = 'T vmm_plugin_v1' ] || complain "exports: $(echo "$exports" | tr '\n' ';')"

dynamic=$(readelf -dW "$file")
for needed in $(echo "$dynamic" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
  found=no
  for allowed; do
    # shellcheck disable=SC2254 # a pattern on purpose
    case $needed in $allowed) found=yes ;; esac
  done
  [ $found = yes ] || complain "needs $needed, allowed: $*"
done
for tag in SONAME RPATH RUNPATH TEXTREL; do
  case $dynamic in *"($tag)"*) complain "has $tag" ;; esac
done
case $(echo "$dynamic" | grep -E '\(FLAGS(_1)?\)') in
*TEXTREL* | *NOOPEN*) complain 'has the flag TEXTREL or NOOPEN' ;;
esac
stack=$(readelf -lW "$file" | awk '$1 == "GNU_STACK" { print $7 }')
[ "$stack" = RW ] || complain "stack is $stack"
if [ -n "$glibc_max" ]; then
  highest=$(readelf -VW "$file" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1)
  newest=$(printf '%s\n%s\n' "$highest" "GLIBC_$glibc_max" | sort -V | tail -n 1)
  [ "$newest" = "GLIBC_$glibc_max" ] || complain "needs $highest, allowed: GLIBC_$glibc_max"
fi
[ $bad = 0 ] && echo "$file: exports and needs what it should"
exit $bad
