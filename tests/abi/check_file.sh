#!/bin/sh
# SPDX-License-Identifier: MIT
# check_file.sh LIST FILE [NAME]
# Holds a built file to its lines of the list (files.txt), by check_exports.sh. NAME is the file's
# there, if it is not the last part of FILE.
set -eu
list=$1 file=$2
name=${3:-$(basename "$file")}
allowed() { # WHAT
  awk -v name="$name" -v what="$1" '$1 == name && $2 == what { print $3 }' "$list"
}

[ -n "$(allowed exports)" ] || { echo "$list has no line for $name"; exit 1; }
set -- "$file"
for library in $(allowed needs); do set -- "$@" "$library"; done
for version in $(allowed version); do set -- -v "$version" "$@"; done
for soname in $(allowed soname); do set -- -s "$soname" "$@"; done
for symbol in $(allowed exports); do set -- -e "$symbol" "$@"; done
exec "$(dirname "$0")/check_exports.sh" "$@"
