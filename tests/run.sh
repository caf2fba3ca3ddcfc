#!/usr/bin/env bash
# Installs what is missing, builds and runs all tests:
#   bash tests/run.sh            everything, as continuous integration does
#   bash tests/run.sh STAGE...   only these stages: format release clang asan tsan
# Each stage but "format" is a CMake preset, built with warnings as errors and run by ctest. Ends
# with a summary; exit status 0 only if nothing failed. A test that needs what this machine lacks is
# skipped with its reason, which the summary repeats.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

all_stages=(format release clang asan tsan)
stages=("$@")
((${#stages[@]})) || stages=("${all_stages[@]}")
for stage in "${stages[@]}"; do
  if [[ " ${all_stages[*]} " != *" $stage "* ]]; then
    echo "tests/run.sh: no stage '$stage'; there are: ${all_stages[*]}" >&2
    exit 2
  fi
done

bash tests/install_packages.sh test || exit 1
mkdir -p build
jobs=$(nproc)
passed=0 failed=0 skipped=0
summary=()

# The thread sanitizer has nothing to say of tests with one thread: these have several.
threaded=(plugin_threads plugin_reset kvm_sim kvm_sim_events kvm_device preload preload_parts)

# What a stage builds and runs. The end-to-end tests and those that call compilers themselves are
# about the product, not about the compiler or the sanitizer: once is enough.
choose() { # PRESET: sets build_arguments and ctest_arguments
  build_arguments=() ctest_arguments=()
  [[ $1 == release ]] || ctest_arguments=(--label-exclude once)
  if [[ $1 == tsan ]]; then
    build_arguments=(--target svm_pmu "${threaded[@]/#/test_}")
    ctest_arguments+=(--tests-regex "^($(IFS='|' && echo "${threaded[*]}"))/")
  fi
}

run_preset() { # PRESET: configure, build, test; counts into passed, failed, skipped
  local preset=$1 log=build/log-$1.txt out=build/ctest-$1.txt
  choose "$preset"
  if ! { cmake --preset "$preset" &&
    cmake --build --preset "$preset" -j "$jobs" "${build_arguments[@]}"; } >"$log" 2>&1; then
    grep -E "error|FAILED|warning" "$log" | head -50
    echo "the build of '$preset' failed; its log is $log"
    failed=$((failed + 1))
    return 1
  fi
  ctest --preset "$preset" -j "$jobs" "${ctest_arguments[@]}" >"$out" 2>&1
  local status=$? ok bad skip
  ok=$(grep -cE '^ *[0-9]+/[0-9]+ .* Passed ' "$out")
  skip=$(grep -cE '^ *[0-9]+/[0-9]+ .*\*\*\*Skipped' "$out")
  bad=$(grep -cE '^ *[0-9]+/[0-9]+ .*(\*\*\*|\(Failed\)|Not Run)' "$out")
  bad=$((bad - skip))
  ((status != 0 && bad == 0)) && bad=1
  passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
  if ((status != 0)); then
    cat "$out"
    return 1
  fi
  # ctest's log quotes the expression that tells a skip, too
  grep -hE 'SKIPPED: ' "$out" build/"$preset"/Testing/Temporary/LastTest.log 2>/dev/null |
    grep -vF 'SKIPPED: .*' | sed 's/.*SKIPPED: /  skipped: /' | sort | uniq -c
  grep -E '^[0-9]+% tests passed' "$out"
  return 0
}

run_format() {
  local files scripts
  mapfile -t files < <(git ls-files '*.h' '*.hpp' '*.c' '*.cpp')
  mapfile -t scripts < <(git ls-files '*.sh' '.ci/run')
  if clang-format-14 --dry-run --Werror "${files[@]}" && shellcheck "${scripts[@]}"; then
    passed=$((passed + 1))
    return 0
  fi
  failed=$((failed + 1))
  return 1
}

for stage in "${stages[@]}"; do
  echo "== $stage"
  begin=$SECONDS
  result=FAILED
  if [[ $stage == format ]]; then
    run_format && result=passed
  else
    run_preset "$stage" && result=passed
  fi
  summary+=("$(printf '%-8s %s in %d s' "$stage" "$result" $((SECONDS - begin)))")
done

echo
printf '%s\n' "${summary[@]}"
echo "$passed passed, $failed failed, $skipped skipped"
((failed == 0))
