#!/usr/bin/env bash
# Plants one fault after the other in a copy of the sources and sees whether their tests notice:
#   bash tests/mutation/run.sh [ROOM|NAME...]  all faults, or those; takes minutes
#   bash tests/mutation/run.sh --check         only whether each still fits the sources; a second
# A room is a table beside this file: plugin, host_kit, host_preload. Needs no /dev/kvm: the hosts
# run on the simulated one.
# Works in build/mutation, never in the tree itself. Prints a line a fault: which test cases caught
# it, or SURVIVED. Exit status 0: all were caught; 1: one survived, does not apply or does not
# compile; 2: the tests fail without any fault, or a NAME is none of the tables.
set -euo pipefail
cd "$(dirname "$0")/../.."
clean=build/mutation/clean tree=build/mutation/tree
build=build/mutation/build log=build/mutation/log.txt

# What a fault of a room can be caught by: programs to build, test cases to run.
rooms=(plugin host_kit host_preload)
declare -A targets cases
targets[plugin]="svm_pmu host_stub test_options test_text test_matrix"
for source in tests/plugin/test_plugin_*.cpp; do
  targets[plugin]+=" $(basename "$source" .cpp)"
done
cases[plugin]='^(options|text|matrix|plugin_[a-z_]+|abi/validate/svm_pmu)(/|$)'
targets[host_preload]="test_msr_filter test_preload_parts test_reset_detector test_preload_sim
                       test_config test_conformance"
targets[host_kit]="${targets[host_preload]} test_host_kit test_vmm_host"
for bad in other_major small_descriptor small_hooks registers_twice never_registers \
  positive_result; do
  targets[host_kit]+=" bad_plugin_$bad" # of test_host_kit
done
cases[host_preload]='^(msr_filter|preload_parts|reset_detector|preload_sim|config)/'
cases[host_preload]+='|^conformance/the_(preload_host|stub)_on_a_simulated_kvm'
cases[host_kit]="${cases[host_preload]}|^(host_kit|vmm_host)/"

# The tables: names in their order, room_of[NAME], what[NAME], and edits_of[NAME] as indices of
# file, old, new.
names=() file=() old=() new=()
declare -A what room_of edits_of
read_table() { # ROOM
  local line name='' path='' state='' table=tests/mutation/$1.txt
  while IFS= read -r line; do
    case $line in
      '' | '#'*) state='' ;;
      '['*']'*)
        name=${line%%]*} name=${name#[}
        [[ -z ${what[$name]+there} ]] || { echo "$table: two are called $name" >&2 && exit 1; }
        names+=("$name") room_of[$name]=$1 what[$name]=${line#*] } edits_of[$name]=''
        state=''
        ;;
      -*)
        if [[ $state != old ]]; then
          file+=("$path") old+=("${line#-}") new+=('')
          edits_of[$name]+=" $((${#file[@]} - 1))"
        else
          old[-1]+=$'\n'${line#-}
        fi
        state=old
        ;;
      +*)
        if [[ $state == old ]]; then new[-1]=${line#+}; else new[-1]+=$'\n'${line#+}; fi
        state=new
        ;;
      *) path=$line state='' ;;
    esac
  done <"$table"
}

# apply NAME ROOT: changes the files below ROOT; with ROOT "" only looks whether it could.
apply() {
  local i text rest count
  for i in ${edits_of[$1]}; do
    text=$(cat "${2:-.}/${file[i]}" && echo .)
    rest=${text//"${old[i]}"/}
    count=$(((${#text} - ${#rest}) / ${#old[i]}))
    if ((count != 1)) || [[ ${old[i]} == "${new[i]}" ]]; then
      echo "$1 does not apply: ${file[i]} has $count times, not once, or nothing changes: ${old[i]}"
      return 1
    fi
    text=${text/"${old[i]}"/"${new[i]}"}
    [[ -z $2 ]] || printf '%s' "${text%.}" >"$2/${file[i]}"
  done
}

restore() { # NAME: as it was at the start, with a new time
  local i
  for i in ${edits_of[$1]}; do cp "$clean/${file[i]}" "$tree/${file[i]}"; done
}

build_and_test() { # ROOM: the failing cases, one a line; status 1: does not compile
  local -a programs
  read -ra programs <<<"${targets[$1]//$'\n'/ }"
  cmake --build $build -j "$(nproc)" --target "${programs[@]}" >$log 2>&1 || return 1
  ctest --test-dir $build -R "${cases[$1]}" -j "$(nproc)" --timeout 60 --no-tests=error >>$log 2>&1
  sed -nE 's/^ *[0-9]+\/[0-9]+ Test +#[0-9]+: ([^ ]+) .*\*\*\*(Failed|Timeout|Exception).*/\1/p' $log
}

for room in "${rooms[@]}"; do read_table "$room"; done
if [[ ${1:-} == --check ]]; then
  status=0
  for name in "${names[@]}"; do apply "$name" '' || status=1; done
  echo "${#names[@]} planted faults, ${#file[@]} edits"
  exit $status
fi
(($#)) || set -- "${rooms[@]}"
wanted=()
for word; do
  if [[ -n ${targets[$word]+there} ]]; then
    for name in "${names[@]}"; do [[ ${room_of[$name]} != "$word" ]] || wanted+=("$name"); done
  elif [[ -n ${what[$word]+there} ]]; then
    wanted+=("$word")
  else
    echo "'$word' is no fault of ${rooms[*]} and no room" >&2 && exit 2
  fi
done

rm -rf $clean
mkdir -p $clean $tree
git ls-files -z | xargs -0 cp --parents -t $clean
git ls-files -z | xargs -0 cp --parents --update -t $tree
for name in "${names[@]}"; do restore "$name"; done
cmake -S $tree -B $build -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo >$log

caught=0 room=''
for name in "${wanted[@]}"; do
  if [[ ${room_of[$name]} != "$room" ]]; then
    room=${room_of[$name]}
    failed=$(build_and_test "$room") || { cat $log && exit 2; }
    [[ -z $failed ]] || { printf 'without any fault these fail:\n%s\n' "$failed" && exit 2; }
  fi
  if ! apply "$name" $tree; then
    restore "$name"
    continue
  fi
  if failed=$(build_and_test "$room"); then
    if [[ -n $failed ]]; then
      count=$(wc -l <<<"$failed")
      verdict="caught by $count: $(head -n 2 <<<"$failed" | paste -sd ' ')"
    else
      verdict='SURVIVED'
    fi
  elif grep -q 'static assertion failed' $log; then
    verdict='caught by a static assertion'
  else
    verdict="DOES NOT COMPILE: $(grep -m1 'error' $log)"
  fi
  [[ $verdict == caught* ]] && caught=$((caught + 1))
  printf '%-36s %s\n%-36s   %s\n' "$name" "${what[$name]}" '' "$verdict"
  restore "$name"
done
echo "$caught of ${#wanted[@]} planted faults were caught"
((caught == ${#wanted[@]}))
