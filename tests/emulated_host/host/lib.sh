# shellcheck shell=sh
# Sourced by a plan in the emulated host.

# host_facts: what the host is
host_facts() {
  echo "HOST Linux $(uname -r)"
  for parameter in kvm/parameters/enable_pmu kvm_amd/parameters/enable_mediated_pmu; do
    [ ! -e "/sys/module/$parameter" ] || echo "HOST $parameter $(cat "/sys/module/$parameter")"
  done
}

# guest NAME DONES SECONDS COMMAND...: runs a VMM until its guest has said GUEST-DONE so often;
# prints what the guest said, then what the VMM did. A name that is in /done was run before.
guest() {
  name=$1 dones=$2 limit=$3
  shift 3
  case_begins "$name" || return 0
  i=0
  : >/tmp/guest.log
  "$@" </dev/null >/tmp/guest.log 2>/tmp/vmm.log &
  vmm=$!
  while kill -0 "$vmm" 2>/dev/null; do
    sleep 1
    i=$((i + 1))
    [ "$(grep -a -c GUEST-DONE /tmp/guest.log)" -lt "$dones" ] || break
    [ $i -lt "$limit" ] || { echo "VMM stopped after $limit s"; break; }
  done
  kill -9 "$vmm" 2>/dev/null
  wait "$vmm" 2>/dev/null
  case_ends $?
}

# vmm COMMAND...: starts a VMM whose monitor takes lines from /tmp/monitor.in
vmm() {
  rm -f /tmp/monitor.in /tmp/monitor.out
  mkfifo /tmp/monitor.in /tmp/monitor.out
  "$@" -monitor pipe:/tmp/monitor </dev/null >>/tmp/guest.log 2>>/tmp/vmm.log &
  vmm=$!
  cat /tmp/monitor.out >>/tmp/monitor.log &
}

monitor() { echo "$*" >/tmp/monitor.in; }

# monitor_until ANSWER COMMAND...: gives the command and asks for the status until the monitor says so
monitor_until() {
  answer=$1 i=0
  shift
  : >/tmp/monitor.log
  while ! grep -q "$answer" /tmp/monitor.log && kill -0 "$vmm" && [ $i -lt 120 ]; do
    i=$((i + 1))
    monitor "$*"
    monitor info status
    sleep 1
  done 2>/dev/null
}

# wait_for LINE COUNT: until the guest has said a line that begins so, so often; false after 120 s
wait_for() {
  i=0
  while [ "$(grep -a -c "^$1" /tmp/guest.log)" -lt "$2" ]; do
    i=$((i + 1))
    if [ "$i" -gt 120 ] || ! kill -0 "$vmm" 2>/dev/null; then
      echo "VMM: no $1 within $i s" >>/tmp/vmm.log
      return 1
    fi
    sleep 1
  done
}

# again LINE: how often wait_for must see it to see a new one
again() { echo $(($(grep -a -c "^$1" /tmp/guest.log) + 1)); }

# reset_it: a reset by the VMM, and until the guest has counted again
reset_it() {
  monitor system_reset
  wait_for GUEST-STAYS 2 && wait_for CYCLES "$(again CYCLES)"
}

end_vmm() {
  kill -9 "$vmm" 2>/dev/null
  wait "$vmm" 2>/dev/null
}

# hotplug NAME _ _ COMMAND...: a CPU is plugged, unplugged, plugged again, then the VM is reset
hotplug() {
  case_begins "$1" || return 0
  shift 3
  : >/tmp/guest.log
  : >/tmp/vmm.log
  cpu='device_add host-x86_64-cpu,id=second,socket-id=0,die-id=0,core-id=1,thread-id=0'
  vmm "$@" -smp 1,maxcpus=2,cores=2
  wait_for GUEST-STAYS 1 && monitor "$cpu" && wait_for 'CPUS 2' 1 &&
    monitor device_del second && wait_for 'CPUS 1' "$(again 'CPUS 1')" &&
    monitor "$cpu" && wait_for 'CPUS 2' "$(again 'CPUS 2')" && reset_it
  status=$?
  end_vmm
  case_ends $status
}

# migration NAME _ _ COMMAND...: into a file and back, then a reset
migration() {
  case_begins "$1" || return 0
  shift 3
  : >/tmp/guest.log
  : >/tmp/vmm.log
  : >/tmp/monitor.log
  vmm "$@"
  if wait_for GUEST-STAYS 1 && wait_for CYCLES 2; then
    monitor stop
    monitor 'migrate "exec:cat >/tmp/state"'
    monitor_until 'status: completed' info migrate
    end_vmm
    echo MIGRATED >>/tmp/guest.log
    vmm "$@" -incoming 'exec:cat /tmp/state'
    monitor_until 'status: running' cont # which does nothing before all of the file is read
    wait_for CYCLES "$(again CYCLES)" && wait_for CYCLES "$(again CYCLES)" && reset_it
  else
    false
  fi
  status=$?
  end_vmm
  rm -f /tmp/state
  case_ends $status
}

case_begins() { # NAME
  ! grep -qxF "$1" /done || return 1
  echo "CASE-BEGINS $1"
}

# case_ends STATUS: prints the guest's and the VMM's lines
case_ends() {
  tr -d '\r' </tmp/guest.log | sed 's/^\[ *[0-9.]*\] //' | grep -a -v '^$'
  sed 's/^/VMM: /' /tmp/vmm.log
  echo "CASE-ENDS $1"
}
