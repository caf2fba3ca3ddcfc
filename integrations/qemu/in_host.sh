#!/usr/bin/env bash
# What QEMUs do with a guest's PMU registers, in an emulated host; test.sh starts it there:
#   bash integrations/qemu/in_host.sh
# Runs each patched QEMU and each unpatched one that the host has. Prints a table of what registers read
# after a reset, a snapshot and a migration, which states one QEMU takes from another, and what
# conformance-host says of the patched ones. Exit status 1 if a patched one loses a register, takes or
# refuses a wrong state, or breaks a rule for hosts of plugins.
set -euo pipefail
build=/build
[[ -e /etc/emulated_host ]] || { echo "SKIPPED: this runs in an emulated host"; exit 77; }
patched=$build/integrations/qemu
# what a VMM in /sid sees, too
work=/guests/qemu
mkdir -p "$work"
cp "$patched/guest.elf" "$work/guest.elf"
plugin=$build/plugin/svm_pmu.so

trap '' PIPE # a VMM that ended reads no more of its monitor's commands
failures=0
fail() {
  echo "FAILED: $1"
  failures=$((failures + 1))
}
say() { echo "[$SECONDS s] $1"; }

declare -A command=(
  ["7.2 patched"]="$patched/qemu-7.2 -L /usr/share/qemu -L /usr/share/seabios"
  ["10.0 patched"]="$patched/qemu-10.0 -L /usr/share/qemu -L /usr/share/seabios"
  ["7.2 unpatched"]="qemu-system-x86_64 -L /usr/share/qemu -L /usr/share/seabios"
  ["sid unpatched"]="chroot /sid qemu-system-x86_64"
)
machine=(-nodefaults -display none -cpu "host,pmu=on")

# start NAME ACCELERATOR ARGUMENT...: a VMM, with a monitor that tell() reaches. What the guest says
# goes to $work/guest, what QEMU says to $work/monitor and $work/errors.
start() {
  local words
  read -ra words <<<"${command[$1]}"
  rm -f "$work"/{in,guest}
  mkfifo "$work/in"
  : >"$work/guest"
  "${words[@]}" "${machine[@]}" -accel "$2" "${@:3}" -serial "file:$work/guest" -monitor stdio \
    <"$work/in" >"$work/monitor" 2>"$work/errors" &
  vmm=$!
  exec 9>"$work/in"
}
tell() { echo "$*" >&9 || true; } 2>/dev/null # it may have ended
end() { # of the VMM, by itself if it can
  tell quit
  wait_until "! kill -0 $vmm" || kill -9 "$vmm"
  wait "$vmm" || true
  exec 9>&-
} 2>/dev/null

# wait_until CONDITION: false if it is not so after 400 tries
wait_until() {
  local i
  for ((i = 0; i < 400; i++)); do
    ! eval "$1" 2>/dev/null || return 0
    sleep 0.3
  done
  return 1
}
reports() { grep -a -c '^REPORT-END' "$work/guest"; }
wait_reports() {
  wait_until "(( \$(reports) >= $1 )) || ! kill -0 $vmm"
  (($(reports) >= $1)) || { tail -n 5 "$work/errors" "$work/monitor"; return 1; }
}
# report N: the values of the guest's Nth report, in a line
report() {
  tr -d '\r' <"$work/guest" | awk -v want="$1" '
    /^REPORT / { n++ }
    /^READ / && n == want {
      value = $4 == "" ? $3 : $4
      sub(/^0+/, "", value)
      printf "%s ", value == "" ? "0" : value
    }'
}
all_zero() { [[ $1 =~ ^(0 |#GP )+$ ]]; }
# wait_monitor TEXT COMMAND: gives it until the monitor's answer has the text
wait_monitor() {
  wait_until "tell '$2'; grep -a -q '$1' '$work/monitor' || ! kill -0 $vmm"
  grep -a -q "$1" "$work/monitor"
}
# uri FILE NAME DIRECTION: the same for QEMU's "migrate" and "-incoming". 7.2 has no file:, and /sid no cat.
uri() {
  case $2$3 in
    7.2*in) echo "exec:cat $1" ;;
    7.2*) echo "exec:cat >$1" ;;
    *) echo "file:$1" ;;
  esac
}
migrate_to_file() { # FILE NAME
  tell stop
  tell "migrate \"$(uri "$1" "$2" out)\""
  wait_monitor '[Ss]tatus:[[:space:]]*\(completed\|failed\)' 'info migrate'
  grep -a -q '[Ss]tatus:[[:space:]]*completed' "$work/monitor"
}
# start_from FILE NAME ACCELERATOR ARGUMENT...: a VMM that goes on with a state. False if it refuses.
start_from() {
  start "${@:2}" -incoming "$(uri "$1" "$2" in)"
  wait_monitor 'status: \(running\|paused (internal\)' $'info status\ncont' &&
    grep -a -q 'status: running' "$work/monitor"
}
words() { sed 's/^[^ ]*qemu[^ ]*: //' "$work/errors" | head -n 2; }

guest=(-m 64 -kernel "$work/guest.elf" -drive "if=none,format=qcow2,file=$work/disk")

# registers NAME ACCELERATOR: the rows of one VMM in the table; sets the array row
registers() {
  local name=$1 accelerator=$2 fresh want
  rm -f "$work/disk"
  qemu-img create -q -f qcow2 "$work/disk" 1M
  row=()
  start "$name" "$accelerator" -machine q35 "${guest[@]}"
  wait_reports 2 || return 1
  fresh=$(report 1) want=$(report 2)
  tell system_reset
  wait_reports 4 || return 1
  row+=("$want" "$([[ $(report 3) == "$fresh" ]] && echo clean || echo stale)")
  tell savevm one
  tell nmi
  wait_reports 5 || return 1
  [[ $(report 5) == "$want" ]] || echo "the guest's own NMI reads $(report 5)"
  tell loadvm one
  tell nmi
  wait_reports 6 || return 1
  row+=("$(report 6)")
  tell system_reset
  wait_reports 8 || return 1
  migrate_to_file "$work/state" "$name" || return 1
  end
  start_from "$work/state" "$name" "$accelerator" -machine q35 "${guest[@]}" || return 1
  tell nmi
  wait_reports 1 || return 1
  row+=("$(report 1)")
  end
}

# judge NAME: lets host_stub conformance-host judge a VMM, and prints what it says
judge() {
  # QEMU resets the registers that are marked without these: counters of the PMU
  local name=$1 options marks=,,msr=0xc0010201,,msr2=0xc0010203
  rm -f "$work"/{record,runs,disk}
  qemu-img create -q -f qcow2 "$work/disk" 1M
  "$build/host_stub/host_stub" conformance-host --runs "$work/record" >"$work/runs"
  while read -r options; do
    start "$name" \
      "kvm,plugin=$build/host_stub/check/host/recorder/host_conformance.so,,${options//,/,,}$marks" \
      -machine q35 -smp 2 -m 64 -drive "if=none,format=qcow2,file=$work/disk"
    wait_monitor 'status: running' 'info status' || true
    for _ in 1 2 3 4 5; do tell system_reset && sleep 0.4; done 2>/dev/null || true
    { tell savevm one && tell loadvm one && tell system_reset && sleep 0.4; } 2>/dev/null || true
    end
  done <"$work/runs"
  "$build/host_stub/host_stub" conformance-host "$work/record" ||
    fail "$name breaks a rule for hosts of plugins"
}

# exact VALUES WANTED: "exact", "lost", or the values
exact() {
  if [[ $1 == "$2" ]]; then
    echo exact
  elif all_zero "$1"; then
    echo 'lost: all are 0'
  else
    echo "$1"
  fi
}
table() {
  printf '| %-14s | %-9s | %-8s | %-30s | %s\n' "$@"
}

vmms=("7.2 patched" "10.0 patched" "7.2 unpatched")
[[ ! -d /sid ]] || vmms+=("sid unpatched")
for name in "${vmms[@]}"; do
  read -ra words <<<"${command[$name]}"
  echo "$name: $("${words[@]}" --version | head -n 1)"
done

rows=()
for name in "${vmms[@]}"; do
  say "$name: registers"
  accelerator=kvm
  [[ $name != *\ patched ]] || accelerator=kvm,plugin=$plugin
  if ! registers "$name" "$accelerator"; then
    fail "$name: the test does not come to its end"
    end
    continue
  fi
  want=${row[0]}
  distinct=$(for value in $want; do echo "$value"; done | head -n 12 | sort -u | wc -l)
  ((distinct == 12)) || fail "$name: the guest's registers are $want"
  echo "guest has: $want"
  result=("${row[1]}" "$(exact "${row[2]}" "$want")"
    "$(exact "${row[3]}" "$want")")
  rows+=("$(table "$name" "${result[@]}" "$([[ $want == *GP* ]] && echo no || echo yes)")")
  [[ $name != *\ patched || ${result[*]} == "clean exact exact" ]] || fail "$name: ${result[*]}"
done

echo "Linux $(uname -r)"
table VMM reset loadvm 'migration to a file' 'GLOBAL_CTL, GLOBAL_STATUS'
printf '%s\n' "${rows[@]}"

# save_state FILE NAME ACCELERATOR: of a guest that has written its registers
save_state() {
  start "$2" "$3" -machine "$crossed" "${guest[@]}"
  if ! wait_reports 2 || ! migrate_to_file "$work/$1" "$2"; then fail "$2 ($3) cannot be saved"; fi
  end
}
# crossing FILE FROM NAME ACCELERATOR [WORDS]: must be taken, or be refused with these words
crossing() {
  if start_from "$work/$1" "$3" "$4" -machine "$crossed" "${guest[@]}"; then
    echo "$2 -> $3, $4: taken"
    [[ ! ${5:-} ]] || fail "$3 takes the state of $2"
  else
    echo "$2 -> $3, $4: refused"
    words
    if [[ ! ${5:-} ]] || ! grep -q "$5" "$work/errors"; then
      fail "$3 does not take the state of $2"
    fi
  fi
  end
}
say "states of a QEMU in another"
crossed=q35,hpet=off,vmport=off # devices that the smallest build has none of
old="7.2 patched" unpatched="7.2 unpatched" with=kvm,plugin=$plugin
off=$with,,pmu-cap-disabled=on
save_state with "$old" "$with"
save_state off "$old" "$off"
save_state without "$old" kvm
save_state unpatched "$unpatched" kvm
crossing without "$old, kvm" "$unpatched" kvm
crossing off "$old, pmu-cap-disabled=on" "$unpatched" kvm
crossing unpatched "$unpatched" "$old" kvm
crossing unpatched "$unpatched" "$old" "$off"
crossing with "$old with plugin" "$unpatched" kvm "error while loading state"
crossing with "$old with plugin" "$old" kvm "no plugin is loaded here"
crossing unpatched "$unpatched" "$old" "$with" "the state has no registers of plugins"

for name in "${vmms[@]}"; do
  [[ $name == *\ patched ]] || continue
  say "$name: conformance"
  judge "$name"
done

say "$failures failed"
((failures == 0))
