#!/usr/bin/env bash
# Each rule of abi/ABI.md has a row in held_by.txt, in the page's order, and each ctest case that a row
# names exists. The words that stand for a command of host_stub are with exactly the rules that the
# command lists.
#   check_held_by.sh ABI.md HELD_BY BUILD_DIR HOST_STUB
set -euo pipefail
set -f # patterns are for ctest's names, not for files
page=$1 table=$2 build=$3 host_stub=$4

cases=$(ctest --test-dir "$build" -N | sed -n 's/^ *Test *#[0-9]*: //p')
status=0
complain() {
  echo "$*"
  status=1
}
rules=$(grep '^VMM-' "$table")
order=$(diff <(sed -nE 's/^- \*\*(VMM-[0-9]+)\*\* .*/\1/p' "$page") <(grep -oE '^VMM-[0-9]+' "$table")) ||
  complain "the page (<) and the table (>) differ in their rules: $order"
declare -A named=([validate]='' [conformance]='')
while IFS= read -r rule; do
  name=${rule%%:*}
  # without what is in parentheses, which is a remark
  words=$(sed 's/^[^:]*://; s/([^)]*)//g; s/,/ /g' <<<"$rule")
  [[ -n ${words// /} ]] || complain "$name is held by nothing"
  for word in $words; do
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
