#!/bin/sh
# SPDX-License-Identifier: MIT
# check_exports.sh [-e SYMBOL]... [-s SONAME] [-v FAMILY_MAX]... FILE ALLOWED_NEEDED...
# What a loadable file must be: exports the functions of -e (vmm_plugin_v1 if there is none) and
# nothing else ("-e -": nothing at all; "-e R:NAME": a constant), in whatever symbol version; needs only the libraries named (a name may be a pattern,
# 'libboost_program_options.so.*'); no SONAME but that of -s, no RPATH, TEXTREL, executable stack,
# "do not dlopen" flag. -v GLIBC_2.14: the highest symbol version of that family that it may need;
# with any -v a family that has none may not be needed at all.
set -eu
allowed_exports='' allowed_soname='' allowed_versions=''
while getopts e:s:v: option; do
  case $option in
  e) allowed_exports="$allowed_exports$OPTARG
" ;;
  s) allowed_soname=$OPTARG ;;
  v) allowed_versions="$allowed_versions $OPTARG" ;;
  *) exit 2 ;;
  esac
done
shift $((OPTIND - 1))
file=$1
shift
bad=0
complain() {
  echo "$file: $*"
  bad=1
}

# one "@": a program's copy of another file's variable (stderr@GLIBC_2.2.5)
exports=$(nm -D --defined-only "$file" |
  awk '$(NF - 1) != "A" && $NF !~ /[^@]@[^@]/ { sub(/@@.*/, ""); print $(NF - 1), $NF }' | sort)
expected=$(echo "${allowed_exports:-vmm_plugin_v1}" |
  sed '/^-*$/d; s/^\(.\):/\1 /; t; s/^/T /' | sort)
[ "$exports" = "$expected" ] || complain "exports: $(echo "$exports" | tr '\n' ';')"

dynamic=$(readelf -dW "$file")
for needed in $(echo "$dynamic" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
  found=no
  for allowed; do
    # shellcheck disable=SC2254 # a pattern on purpose
    case $needed in $allowed) found=yes ;; esac
  done
  [ $found = yes ] || complain "needs $needed, allowed: $*"
done
soname=$(echo "$dynamic" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')
[ "$soname" = "$allowed_soname" ] || complain "has SONAME '$soname', allowed: '$allowed_soname'"
for tag in RPATH RUNPATH TEXTREL; do
  case $dynamic in *"($tag)"*) complain "has $tag" ;; esac
done
case $(echo "$dynamic" | grep -E '\(FLAGS(_1)?\)') in
*TEXTREL* | *NOOPEN*) complain 'has the flag TEXTREL or NOOPEN' ;;
esac
stack=$(readelf -lW "$file" | awk '$1 == "GNU_STACK" { print $7 }')
[ "$stack" = RW ] || complain "stack is $stack"

if [ -n "$allowed_versions" ]; then
  needs=$(readelf -VW "$file" | sed -n 's/.*Name: \([A-Z]*_[0-9.]*\) .*/\1/p' | sort -uV)
  for version in $needs; do
    family=${version%_*}
    allowed=$(echo "$allowed_versions" | tr ' ' '\n' | grep "^${family}_" || true)
    if [ -z "$allowed" ]; then
      complain "needs $version, allowed:$allowed_versions"
    elif [ "$(printf '%s\n%s\n' "$version" "$allowed" | sort -V | tail -n 1)" != "$allowed" ]; then
      complain "needs $version, allowed: $allowed"
    fi
  done
fi
[ $bad = 0 ] && echo "$file: exports and needs what it should"
exit $bad
