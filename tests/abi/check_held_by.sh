#!/usr/bin/env bash
# Each ctest case that abi/ABI.md names in "Held by" exists, and each rule has a "Held by".
#   check_held_by.sh ABI.md BUILD_DIR
set -euo pipefail
set -f # patterns are for ctest's names, not for files
page=$1 build=$2

cases=$(ctest --test-dir "$build" -N | sed -n 's/^ *Test *#[0-9]*: //p')
status=0
# one line a rule
rules=$(awk '/^- \*\*VMM-/ { if (rule) print rule; rule = $0; next }
             /^($|#)/ { if (rule) print rule; rule = ""; next }
             rule { sub(/^ +/, ""); rule = rule " " $0 }
             END { if (rule) print rule }' "$page")
while IFS= read -r rule; do
  name=${rule#- \*\*}
  name=${name%%\*\**}
  if [[ $rule != *"*Held by:*"* ]]; then
    echo "$name has no 'Held by'"
    status=1
    continue
  fi
  held=${rule##*\*Held by:\*}
  # what is in parentheses is a remark
  held=$(sed 's/([^)]*)//g; s/\.$//' <<<"$held")
  for word in ${held//,/ }; do
    [[ $word == */* ]] || continue
    pattern=${word//\*/.*}
    if ! grep -qE "^(abi/)?$pattern(/|$)" <<<"$cases"; then
      echo "$name is held by '$word', which is no ctest case"
      status=1
    fi
  done
done <<<"$rules"
echo "$(wc -l <<<"$rules") rules, $(grep -c 'not checked yet' <<<"$rules" || true) of them not or not wholly checked yet"
exit "$status"
