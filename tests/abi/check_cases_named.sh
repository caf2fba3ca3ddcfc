#!/usr/bin/env bash
# The other direction of check_held_by.sh: each ctest case with the label "abi" is named by a row of
# held_by.txt, or is in the list of helper cases with a reason.
#   check_cases_named.sh HELD_BY HELPER_CASES BUILD_DIR
# Lines of HELPER_CASES: a case or pattern without "abi/", a blank, the reason.
set -euo pipefail
table=$1 helpers=$2 build=$3

# what the table and the list name, as regular expressions of whole cases, one a line
named=$(grep '^VMM-' "$table" | grep -oE '[[:alnum:]_.+*-]+(/[[:alnum:]_.+*-]+)+' || true)
listed=$(sed -nE 's/^([^# ]+) +[^ ].*/\1/p' "$helpers")
as_regex() { sed -E 's/[.]$//; s/[.+]/\\&/g; s/\*/.*/g; s/^(abi\/)?(.*)$/^abi\/\2(\/|$)/'; }

cases=$(ctest --test-dir "$build" -N -L '^abi$' | sed -n 's/^ *Test *#[0-9]*: //p')
status=0
while IFS= read -r case; do
  echo "$case is held by no rule and is no helper case"
  status=1
done < <(grep -vE -f <(printf '%s\n%s\n' "$named" "$listed" | as_regex) <<<"$cases")
while IFS= read -r pattern; do
  if ! grep -qE "$(as_regex <<<"$pattern")" <<<"$cases"; then
    echo "$helpers: '$pattern' is no case"
    status=1
  fi
done <<<"$listed"
echo "$(wc -l <<<"$cases") cases of the ABI, $(wc -l <<<"$listed") patterns of helper cases"
exit "$status"
