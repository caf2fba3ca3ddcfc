#!/bin/sh
# SPDX-License-Identifier: MIT
# run_says.sh TEXT... -- PROGRAM [ARGUMENT...]
# Runs the program, which must succeed and print each text (on a line of any stream).
set -u
count=0
for argument; do
  [ "$argument" = -- ] && break
  count=$((count + 1))
done
texts=''
while [ "$count" -gt 0 ]; do
  texts="$texts$1
"
  shift
  count=$((count - 1))
done
shift
output=$("$@" 2>&1)
status=$?
printf '%s\n' "$output"
[ $status = 0 ] || { echo "exit status $status"; exit 1; }
printf '%s' "$texts" | while IFS= read -r text; do
  case $output in *"$text"*) ;; *) echo "does not say: $text"; exit 1 ;; esac
done
