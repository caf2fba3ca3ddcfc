#!/usr/bin/env bash
# Without Boost's archive the configuration ends, names its package and the way without it.
#   check_missing_archive.sh SOURCE FOLDER ARCHIVE
set -euo pipefail
source=$1 build=$2 folder=$(dirname "$3")
rm -rf "$build"
if cmake -S "$source" -B "$build" -G Ninja \
  -D "CMAKE_IGNORE_PATH=$folder;${folder#/usr}" >"$build.log" 2>&1; then
  echo "it was configured all the same"
  exit 1
fi
for words in libboost_program_options.a libboost-program-options-dev -DSVM_PMU_STATIC=OFF; do
  tr -s ' \n' ' ' <"$build.log" | grep -qF -- "$words" || { cat "$build.log"; exit 1; }
done
