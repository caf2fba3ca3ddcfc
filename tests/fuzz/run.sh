#!/usr/bin/env bash
# Builds the fuzz targets (clang, preset "fuzz") and runs each from its committed corpus:
#   bash tests/fuzz/run.sh [SECONDS] [TARGET...]
# TARGET: options host plugin preload config, all if none. Without SECONDS each makes a fixed number
# of executions from a fixed seed, so that the same code gives the same result, as continuous
# integration wants it. With SECONDS each looks for something new for so long; new inputs go to
# build/fuzz/found, where the next such run begins. Prints executions, time and coverage of each. Exit
# status 1 if a find ended one: the input is in build/fuzz/finds. When it is mended it goes to
# tests/fuzz/corpus/TARGET.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1

declare -A executions=([options]=50000 [host]=6000 [plugin]=3000 [preload]=3000 [config]=12000)
all_targets=(options host plugin preload config)
seconds=
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
  arguments=(-max_len=600 -timeout=60 -print_final_stats=1
    "-artifact_prefix=build/fuzz/finds/$target-")
  corpus=("tests/fuzz/corpus/$target")
  if [[ $seconds ]]; then
    mkdir -p "$found"
    arguments+=("-max_total_time=$seconds")
    corpus=("$found" "${corpus[@]}")
  else
    rm -rf "build/fuzz/new/$target"
    mkdir -p "build/fuzz/new/$target" # the first folder gets what is new
    arguments+=(-seed=1 "-runs=${executions[$target]}")
    corpus=("build/fuzz/new/$target" "${corpus[@]}")
  fi
  [[ -f tests/fuzz/$target.dict ]] && arguments+=("-dict=tests/fuzz/$target.dict")
  begin=$SECONDS
  if build/fuzz/tests/fuzz/"fuzz_$target" "${arguments[@]}" "${corpus[@]}" \
    >"$out" 2>&1; then
    result=passed
  else
    result=FAILED
    failed=1
    grep -E 'not so|ERROR|runtime error|Test unit|^Base64' "$out"
  fi
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$out")
  coverage=$(grep -oE 'cov: [0-9]+ ft: [0-9]+' "$out" | tail -n 1)
  printf '%-8s %s: %s executions in %d s, %s\n' "$target" "$result" "${runs:-no}" \
    $((SECONDS - begin)) "${coverage:-no coverage}"
done
exit "$failed"
