#!/usr/bin/env bash
# Installs what is missing, builds and runs all tests:
#   bash tests/run.sh            everything, as continuous integration does
#   bash tests/run.sh STAGE...   only these stages; an unknown one names them all
# A stage is a script or a CMake preset. A preset is built with warnings as errors and run by ctest:
#   release   g++, everything          asan      clang, ASan and UBSan, everything
#   clang     clang, the product       asan-gcc  g++, ASan and UBSan, the product
#                                      tsan      g++, TSan, what has threads
# "emulated_host" runs real kernels' kvm_amd under emulation, and in it the release build's tests
# that want /dev/kvm: what is skipped on a machine without one is run there, and not counted as
# skipped. "integrations" looks whether the patches fit Debian's packages of today.
# The builds go on, at the lowest priority, while the stages before them still run their tests. Ends
# with a summary; exit status 0 only if nothing failed. A test that needs what this machine lacks is
# skipped with its reason, which the summary repeats.
# shellcheck disable=SC2317 # a stage's script may be a function, called by its name
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

all_stages=(format lint release clang asan asan-gcc tsan fuzz emulated_host integrations)
declare -A scripts=(
  [format]=check_format
  [lint]='bash tests/lint/run.sh'
  [lint-all]='bash tests/lint/run.sh all'
  [fuzz]='bash tests/fuzz/run.sh'
  [emulated_host]='bash tests/emulated_host/stage.sh'
  [integrations]='bash integrations/qemu/check_patches.sh'
)
stages=("$@")
((${#stages[@]})) || stages=("${all_stages[@]}")
for stage in "${stages[@]}"; do
  if [[ " ${all_stages[*]} ${!scripts[*]} " != *" $stage "* ]]; then
    echo "tests/run.sh: no stage '$stage'; there are: ${all_stages[*]} lint-all" >&2
    exit 2
  fi
done

bash tests/install_packages.sh test || exit 1
mkdir -p build
jobs=$(nproc)
passed=0 failed=0 skipped=0
summary=()

# The product, as its tests reach it: the suites that load the plugin, and the ABI's cases.
plugin_suites=(plugin_{reset,faults,vm_created,state,threads,sandbox,lifetime})
# The thread sanitizer has nothing to say of tests with one thread: these have several.
threaded_suites=(plugin_threads plugin_reset kvm_sim kvm_sim_events kvm_device preload preload_parts)

# What a stage builds and runs. The end-to-end tests and those that call compilers themselves are
# about the product, not about the compiler or the sanitizer: once is enough. The simulator, the
# host stub and their tests see both compilers in "release" and "asan".
choose() { # PRESET: sets build_arguments and ctest_arguments
  local suites folders
  case $1 in
    clang)
      suites=("${plugin_suites[@]}")
      folders=(plugin host_preload abi host_stub/check/host/recorder tests/abi)
      ;;
    asan-gcc)
      suites=("${plugin_suites[@]}" options host_kit)
      folders=(plugin abi tests/abi tests/unit/plugins)
      ;;
    tsan) suites=("${threaded_suites[@]}") folders=(plugin) ;;
    *) suites=() folders=() ;;
  esac
  build_arguments=() ctest_arguments=()
  [[ $1 == release ]] || ctest_arguments=(--label-exclude once)
  ((${#suites[@]})) || return
  build_arguments=(--target "${folders[@]/%//all}" "${suites[@]/#/test_}")
  if [[ " ${folders[*]} " == *" tests/abi "* ]]; then # without the cases that want the host stub
    suites+=(abi)
    ctest_arguments+=(--exclude-regex '^abi/(validate/|.*/host_stub(/|$))')
  fi
  ctest_arguments+=(--tests-regex "^($(IFS='|' && echo "${suites[*]}"))/")
}

# Builds the presets one after another; says "STATUS SECONDS" of each when it is done.
build() { # PRESET...
  local preset begin status
  for preset in "$@"; do
    begin=$SECONDS status=0
    choose "$preset"
    { cmake --preset "$preset" &&
      nice -n 19 cmake --build --preset "$preset" -j "$jobs" "${build_arguments[@]}"; } \
      >"build/log-$preset.txt" 2>&1 || status=1
    echo "$status $((SECONDS - begin))"
  done
}

run_preset() { # PRESET: waits for its build, tests; counts into passed, failed, skipped
  local preset=$1 log=build/log-$1.txt out=build/ctest-$1.txt
  local xml=build/ctest-$1.xml results=build/results-$1.txt status seconds begin ok bad skip
  read -r -u "$builder" status seconds
  if ((status != 0)); then
    grep -E "error|FAILED|warning" "$log" | head -50
    echo "the build of '$preset' failed; its log is $log"
    failed=$((failed + 1))
    return 1
  fi
  choose "$preset"
  begin=$SECONDS
  rm -f "$xml"
  ctest --preset "$preset" -j "$jobs" --output-junit "$PWD/$xml" "${ctest_arguments[@]}" >"$out" 2>&1
  status=$?
  python3 -B tests/junit.py "$xml" >"$results"
  read -r ok bad skip <"$results" || ok=0 bad=1 skip=0 # no file: ctest itself failed
  ((status != 0 && bad == 0)) && bad=1
  passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
  sed -n 's/^skipped \([^ ]*\): .*/\1/p' "$results" >>build/skipped.txt
  parts=": build $seconds s, tests $((SECONDS - begin)) s"
  if ((status != 0)); then
    cat "$out"
    sed -n '/^failed /p' "$results"
    return 1
  fi
  sed -n 's/^skipped [^ ]*: /  skipped: /p' "$results" | sort | uniq -c
  grep -E '^[0-9]+% tests passed' "$out"
  return 0
}

run_script() { # COMMAND...
  local status=0
  "$@" || status=$?
  case $status in
    0) passed=$((passed + 1)) ;;
    77) skipped=$((skipped + 1)) ;;
  esac
  ((status != 0 && status != 77)) || return 0
  failed=$((failed + 1))
  return 1
}

check_format() {
  local files
  mapfile -t files < <(git ls-files '*.h' '*.hpp' '*.c' '*.cpp')
  clang-format-14 --dry-run --Werror "${files[@]}"
}

# Takes the tests that were skipped here and passed in the emulated host out of the skipped ones.
count_emulated_host() {
  local log=build/emulated_host/log/kvm-tests there
  [[ " ${stages[*]} " == *" emulated_host "* && -e $log ]] || return 0
  there=$(sed -n 's/.*Test *#[0-9]*: \([^ ]*\) .* Passed .*/\1/p' "$log" |
    grep -cxFf - build/skipped.txt)
  skipped=$((skipped - there))
  echo "$there tests that were skipped here passed in the emulated host"
}

: >build/skipped.txt
presets=()
for stage in "${stages[@]}"; do
  [[ -v scripts[$stage] ]] || presets+=("$stage")
done
exec {builder}< <(build "${presets[@]}")
if [[ " ${stages[*]} " == *" emulated_host "* ]]; then # its stage says what went wrong
  mkdir -p build/emulated_host
  nice -n 19 bash tests/emulated_host/qemu.sh build/emulated_host >/dev/null 2>&1 &
fi

for stage in "${stages[@]}"; do
  echo "== $stage"
  begin=$SECONDS result=FAILED parts=''
  if [[ -v scripts[$stage] ]]; then
    # shellcheck disable=SC2086 # a command and its arguments
    run_script ${scripts[$stage]} && result=passed
  else
    run_preset "$stage" && result=passed
  fi
  summary+=("$(printf '%-13s %s in %d s%s' "$stage" "$result" $((SECONDS - begin)) "$parts")")
done

echo
printf '%s\n' "${summary[@]}" "all in $SECONDS s"
count_emulated_host
echo "$passed passed, $failed failed, $skipped skipped"
((failed == 0))
