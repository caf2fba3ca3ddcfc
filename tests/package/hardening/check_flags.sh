#!/bin/sh
# SPDX-License-Identifier: MIT
# check_flags.sh COMPILE_COMMANDS FOLDER...
# Each source below the folders was compiled with the flags that leave no trace in a file:
# _FORTIFY_SOURCE (which needs optimization) and, in C++, _GLIBCXX_ASSERTIONS.
set -eu
commands=$1
shift
status=0
for folder; do
  found=$(awk -F'"' '$2 == "command" { command = $0 } $2 == "file" { print $4 "\t" command }' \
    "$commands" | grep "^$folder/" || true)
  count=0
  while IFS='	' read -r source command; do
    [ -n "$source" ] || continue
    count=$((count + 1))
    for flag in '-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2' '-O2' '-D_GLIBCXX_ASSERTIONS'; do
      case "$source $flag" in *.c\ *_GLIBCXX*) continue ;; esac
      case " $command " in
      *" $flag "*) ;;
      *) echo "$source: compiled without $flag" && status=1 ;;
      esac
    done
  done <<FOUND
$found
FOUND
  [ $count -gt 0 ] || { echo "$commands has no source below $folder" && status=1; }
  echo "$folder: $count sources"
done
exit $status
