#!/usr/bin/env bash
# Each ctest case that abi/ABI.md names in "Held by" exists, and each rule has a "Held by". The words
# that stand for a command of host_stub are with exactly the rules that the command lists.
#   check_held_by.sh ABI.md BUILD_DIR HOST_STUB
set -euo pipefail
set -f # patterns are for ctest's names, not for files
page=$1 build=$2 host_stub=$3

cases=$(ctest --test-dir "$build" -N | sed -n 's/^ *Test *#[0-9]*: //p')
status=0
complain() {
  echo "$*"
  status=1
}
# "Held by" of a rule, without what is in parentheses, which is a remark
held_by() { sed 's/.*\*Held by:\*//; s/([^)]*)//g; s/\.$//; s/,/ /g' <<<"$1"; }

# one line a rule
rules=$(awk '/^- \*\*VMM-/ { if (rule) print rule; rule = $0; next }
             /^($|#)/ { if (rule) print rule; rule = ""; next }
             rule { sub(/^ +/, ""); rule = rule " " $0 }
             END { if (rule) print rule }' "$page")
declare -A named=([validate]='' [conformance]='')
while IFS= read -r rule; do
  name=${rule#- \*\*}
  name=${name%%\*\**}
  if [[ $rule != *"*Held by:*"* ]]; then
    complain "$name has no 'Held by'"
    continue
  fi
  for word in $(held_by "$rule"); do
    [[ -v named[$word] ]] && named[$word]+="$name "
    [[ $word == */* ]] || continue
    pattern=${word//\*/.*}
    grep -qE "^(abi/)?$pattern(/|$)" <<<"$cases" ||
      complain "$name is held by '$word', which is no ctest case"
  done
done <<<"$rules"

# a command that host_stub does not have lists nothing
declare -A command=([validate]=validate [conformance]=conformance-host)
commands=$("$host_stub" --help)
for word in "${!command[@]}"; do
  listed=
  if grep -qE "^  ${command[$word]}" <<<"$commands"; then
    listed=$("$host_stub" "${command[$word]}" --list | sed 's/ .*//' | tr '\n' ' ')
  fi
  [[ $listed == "${named[$word]}" ]] || complain "'$word' stands with other rules than those of" \
    "'host_stub ${command[$word]} --list':" \
    "$(diff <(tr ' ' '\n' <<<"${named[$word]}") <(tr ' ' '\n' <<<"$listed") | grep '^[<>]' | tr '\n' ' ')"
done
echo "$(wc -l <<<"$rules") rules, $(grep -c 'not checked yet' <<<"$rules" || true) of them not or not wholly checked yet"
exit "$status"
