#!/usr/bin/env bash
# The plugin's main job under valgrind's memcheck: both fixes on the simulated kernels, with a batch
# and without, with registers that are not there, and options that are refused.
#   main_job.sh HOST_STUB SVM_PMU_SO
# Fails at any error or definite leak of memcheck's, or where a scenario ends otherwise than it must.
set -uo pipefail
stub=$1 plugin=$2

if ! command -v valgrind >/dev/null; then
  echo "SKIPPED: there is no valgrind"
  exit 77
fi
# memcheck cannot run what a sanitizer has instrumented
if nm -D "$plugin" 2>/dev/null | grep -qE ' (__asan_|__tsan_|__ubsan_)'; then
  echo "SKIPPED: the plugin is built with a sanitizer"
  exit 77
fi

memcheck_failed=99
out=$(mktemp)
trap 'rm -f "$out"' EXIT
failures=0

check() { # EXPECTED-STATUS ARGUMENT...: the arguments of host_stub run
  local expected=$1 status=0
  shift
  valgrind --quiet --error-exitcode=$memcheck_failed --leak-check=full \
    --errors-for-leak-kinds=definite --num-callers=30 \
    "$stub" run --plugin "$plugin" "$@" >"$out" 2>&1 || status=$?
  if ((status != expected)); then
    echo "host_stub run $*: status $status instead of $expected"
    cat "$out"
    failures=$((failures + 1))
  fi
}

check 0 --kvm sim:linux-6.12,host-perfmonv2 --cpuid v2 --scenario boot,perf,reset,boot
check 0 --kvm sim:linux-6.12 --vcpus 2 --options verify=on,log-level=debug \
  --scenario boot,perf,reset,boot
check 0 --kvm sim:linux-6.1 --options pmu-cap-disabled=on,strict=on --scenario boot,reset,boot
check 0 --kvm sim:linux-5.10 --options pmu-cap-disabled=on --scenario boot,reset,boot
check 1 --options verify=perhaps --scenario boot

((failures == 0)) || exit 1
echo "5 scenarios, no error, nothing definitely lost"
