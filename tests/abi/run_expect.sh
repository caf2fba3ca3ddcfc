#!/bin/sh
# SPDX-License-Identifier: MIT
# run_expect.sh EXPECTED_STDOUT STATUS PROGRAM [ARGUMENT...]
# Runs the program and compares what it prints and its exit status.
set -u
expected=$1 status=$2
shift 2
output=$("$@")
result=$?
if [ $result = 77 ]; then
  printf '%s\n' "$output"
  exit 77
fi
printf '%s\n' "$output" | diff -u "$expected" - || exit 1
[ $result = "$status" ] || { echo "exit status $result, expected $status"; exit 1; }
