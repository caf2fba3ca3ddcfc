#!/usr/bin/env bash
# Builds the example plugin and the example host, and runs them with each other and with the
# installed svm_pmu.so.
#   build_example.sh cmake|make SOURCE BUILD [CMAKE_OPTION...]
set -euo pipefail
how=$1 source=$2 build=$3
shift 3
rm -rf "$build"
case $how in
  cmake)
    cmake -G Ninja -S "$source" -B "$build" -D CMAKE_C_FLAGS="-Wall -Wextra -Werror" "$@" >/dev/null
    cmake --build "$build" >/dev/null
    ;;
  make)
    cp -r "$source" "$build"
    make -s -C "$build" CFLAGS="-std=c99 -O2 -Wall -Wextra -Werror"
    ;;
esac
cd "$build"
./minimal_host ./minimal_plugin.so clear=0x174 >own.txt
grep -qx 'written to vCPU 1: MSR 0x174 flags 0 value 0x0' own.txt
plugindir=$(pkg-config --variable=plugindir vmm-plugin)
./minimal_host "$plugindir/svm_pmu.so" "" >svm_pmu.txt
grep -q '^svm_pmu [0-9.]*, ABI ' svm_pmu.txt
! grep -E ': -[0-9]+' own.txt svm_pmu.txt
