#!/usr/bin/env bash
# Builds the fuzz targets (clang, preset "fuzz") and runs each from its committed corpus:
#   bash tests/fuzz/run.sh [SECONDS] [TARGET...]
# SECONDS for each target, 5 if not given; TARGET: options host plugin preload config, all if none. Prints
# executions, time and coverage of each. Exit status 1 if one was ended by a find: the input lies in
# build/fuzz/finds. New inputs go to build/fuzz/found, which the next run starts from as well.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1

all_targets=(options host plugin preload config)
seconds=5
if [[ ${1:-} =~ ^[0-9]+$ ]]; then
  seconds=$1
  shift
fi
targets=("$@")
((${#targets[@]})) || targets=("${all_targets[@]}")
for target in "${targets[@]}"; do
  if [[ " ${all_targets[*]} " != *" $target "* ]]; then
    echo "tests/fuzz/run.sh: no target '$target'; there are: ${all_targets[*]}" >&2
    exit 2
  fi
done

mkdir -p build/fuzz/finds
log=build/log-fuzz.txt
if ! { cmake --preset fuzz &&
  cmake --build --preset fuzz -j "$(nproc)" --target "${targets[@]/#/fuzz_}"; } >"$log" 2>&1; then
  grep -E 'error|FAILED|warning' "$log" | head -50
  echo "the build of the fuzz targets failed; its log is $log"
  exit 1
fi

failed=0
for target in "${targets[@]}"; do
  found=build/fuzz/found/$target out=build/fuzz/log-$target.txt
  mkdir -p "$found"
  arguments=("-max_total_time=$seconds" -max_len=600 -timeout=20 -print_final_stats=1
    "-artifact_prefix=build/fuzz/finds/$target-")
  [[ -f tests/fuzz/$target.dict ]] && arguments+=("-dict=tests/fuzz/$target.dict")
  begin=$SECONDS
  if build/fuzz/tests/fuzz/"fuzz_$target" "${arguments[@]}" "$found" "tests/fuzz/corpus/$target" \
    >"$out" 2>&1; then
    result=passed
  else
    result=FAILED
    failed=1
    grep -E 'not so|ERROR|runtime error|Test unit' "$out"
  fi
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$out")
  coverage=$(grep -oE 'cov: [0-9]+ ft: [0-9]+' "$out" | tail -n 1)
  printf '%-8s %s: %s executions in %d s, %s\n' "$target" "$result" "${runs:-no}" \
    $((SECONDS - begin)) "${coverage:-no coverage}"
done
exit "$failed"
