#!/usr/bin/env bash
# Plants one fault after the other in a copy of the plugin and sees whether its tests notice:
#   bash tests/mutation/run.sh [NAME...]     all of mutations.txt, or those; takes minutes
#   bash tests/mutation/run.sh --check       only whether each still fits the sources; a second
# Works in build/mutation, never in the tree itself. Prints a line a fault: which test cases caught
# it, or SURVIVED. Exit status 0: all were caught; 1: one survived, does not apply or does not
# compile; 2: the tests fail without any fault, or a NAME is none of the table.
set -euo pipefail
cd "$(dirname "$0")/../.."
table=tests/mutation/mutations.txt
tree=build/mutation/tree build=build/mutation/build log=build/mutation/log.txt

# What a fault of the plugin can be caught by.
targets=(svm_pmu host_stub test_options test_text test_matrix)
for source in tests/plugin/test_plugin_*.cpp; do targets+=("$(basename "$source" .cpp)"); done
cases='^(options|text|matrix|plugin_[a-z_]+|abi/validate/svm_pmu)(/|$)'

# The table: names in its order, what[NAME], and edits in edit_of[NAME] as indices of file, old, new.
names=() file=() old=() new=()
declare -A what edits_of
read_table() {
  local line name='' path='' state=''
  while IFS= read -r line; do
    case $line in
      '' | '#'*) state='' ;;
      '['*']'*)
        name=${line%%]*} name=${name#[}
        [[ -z ${what[$name]+there} ]] || { echo "$table: two are called $name" >&2 && exit 1; }
        names+=("$name") what[$name]=${line#*] } edits_of[$name]=''
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
  done <$table
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

restore() { # NAME: as it was, with a new time
  local i
  for i in ${edits_of[$1]}; do cp "${file[i]}" "$tree/${file[i]}"; done
}

build_and_test() { # the failing cases, one a line; status 1: does not compile
  cmake --build $build -j "$(nproc)" --target "${targets[@]}" >$log 2>&1 || return 1
  ctest --test-dir $build -R "$cases" -j "$(nproc)" --timeout 60 --no-tests=error >>$log 2>&1
  sed -nE 's/^ *[0-9]+\/[0-9]+ Test +#[0-9]+: ([^ ]+) .*\*\*\*(Failed|Timeout|Exception).*/\1/p' $log
}

read_table
if [[ ${1:-} == --check ]]; then
  status=0
  for name in "${names[@]}"; do apply "$name" '' || status=1; done
  echo "${#names[@]} planted faults, ${#file[@]} edits"
  exit $status
fi
(($#)) || set -- "${names[@]}"
for name; do
  [[ -n ${what[$name]+there} ]] || { echo "$table has no '$name'" >&2 && exit 2; }
done

mkdir -p $tree
git ls-files -z | xargs -0 cp --parents --update -t $tree
for name in "${names[@]}"; do restore "$name"; done
cmake -S $tree -B $build -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo >$log
failed=$(build_and_test) || { cat $log && exit 2; }
[[ -z $failed ]] || { printf 'without any fault these fail:\n%s\n' "$failed" && exit 2; }

caught=0
for name; do
  if ! apply "$name" $tree; then
    restore "$name"
    continue
  fi
  if failed=$(build_and_test); then
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
echo "$caught of $# planted faults were caught"
((caught == $#))
