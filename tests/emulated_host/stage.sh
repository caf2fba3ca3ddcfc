#!/usr/bin/env bash
# The stage emulated_host of tests/run.sh: what continuous integration shows on real kernels, with
# as many hosts side by side as there are cores and memory for. Needs the release build.
#   bash tests/emulated_host/stage.sh
# Each part's log is build/emulated_host/log/NAME, its exit status and seconds are in NAME.result. Exit status 77, with a line "SKIPPED: reason", if
# nothing can be done here.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
run=(bash tests/emulated_host/run.sh)
logs=build/emulated_host/log
rm -rf "$logs"
mkdir -p "$logs"

# What measures time, which emulation has none of; and what takes minutes there and adds nothing.
not_there='^bench/|^e2e/(exit_rate|ioctl_cost|.*_other_qemu)'
# NAME and the arguments of run.sh; the long ones first
facts='-- ctest --test-dir build/release -R ^facts_device/ --output-on-failure -V'
parts=(
  "cases-6.12 --case defaults --case off --case off-filter --case off-auto
    --case auto-silent
    --case verify --case smp2 --case nmi"
  "cases-6.12-more --case sid-qemu --case sid-off --case hotplug --case migration --case kdump"
  "kvm-tests -- ctest --test-dir build/release -L kvm --output-on-failure -E $not_there"
  "cases-6.12-perfmonv2 --perfmonv2 6 --case v2-guest-6.1 --case v2-guest-5.10
    --case sid-v2-guest-5.10"
  "short-5.10 --kernel 5.10 short"
  "short-6.1 --kernel 6.1 short"
  "short-newest --kernel newest short"
  "off-mediated --mediated --case off/with --case defaults/with"
  "stock-qemu --stock-qemu --case off/without --case off/with --case defaults/with"
  "must-fail --case defaults/with-none --case defaults/with-reset --case off/with-none
    --case off/with-capability"
  "facts-5.10 --kernel 5.10 $facts"
  "facts-6.1 --kernel 6.1 $facts"
  "facts-6.12-perfmonv2 --perfmonv2 6 $facts"
  "facts-newest --kernel newest $facts"
)

# part LINE: runs one. The result has a file of its own: a log may end without a newline.
part() {
  local name begin=$SECONDS words
  read -r -d '' -a words <<<"$1"
  name=${words[0]}
  "${run[@]}" "${words[@]:1}" >"$logs/$name" 2>&1 </dev/null
  echo "$? $((SECONDS - begin))" >"$logs/$name.result"
}

reason=$(bash tests/emulated_host/qemu.sh build/emulated_host 2>&1)
status=$?
if ((status)); then
  echo "$reason" | tail -n 25
  exit "$status"
fi
hosts=$(python3 -B -c 'import sys; sys.path.insert(0, "tests/emulated_host")
import hosts; print(max(1, hosts.room_in_memory()))')
echo "${#parts[@]} parts, $hosts at once"
running=0
for line in "${parts[@]}"; do
  if ((running == hosts)); then
    wait -n
    running=$((running - 1))
  fi
  part "$line" &
  running=$((running + 1))
done
wait

failed=0 skipped=0
for line in "${parts[@]}"; do
  name=${line%% *}
  read -r status seconds <"$logs/$name.result"
  case $status in
    0) result=passed ;;
    77) result=skipped skipped=$((skipped + 1)) ;;
    *) result=FAILED failed=$((failed + 1)) ;;
  esac
  printf '  %-22s %s in %s s\n' "$name" "$result" "$seconds"
  case $result in
    passed) sed -n '/^\(--\|with\)/p; /tests passed/p; /crash/p; /^SKIPPED/p' "$logs/$name" |
      grep -v CYCLES | sed 's/^/    /' ;;
    *) grep -v '^/' "$logs/$name" | tail -n 60 ;;
  esac
done
((failed == 0)) || exit 1
((skipped < ${#parts[@]})) || exit 77
