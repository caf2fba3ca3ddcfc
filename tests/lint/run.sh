#!/usr/bin/env bash
# Static analysis: prints findings alone, and how long each tool took; exit status 1 if there is one.
#   bash tests/lint/run.sh       clang-tidy over what is installed; the other tools over all
#   bash tests/lint/run.sh all   clang-tidy over the host stub and the tests, too
# First each tool has to find what is wrong in planted/. What clang-tidy looks for, and why, is in
# .clang-tidy; which folder may include which, in arrows.py. The compile commands are the preset's "lint": clang's, so that clang-tidy knows each
# flag in them.
# shellcheck disable=SC2317 # part() calls functions by their names
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1

case "${1:-}" in
  '') chosen=({plugin,abi,host_preload}/'*'.{c,cpp}) ;;
  all) chosen=('*.c' '*.cpp') ;;
  *)
    echo "usage: $0 [all]" >&2
    exit 2
    ;;
esac

# Not what is wrong on purpose, nor hosting_vmm.c, which is compiled with what a test makes of a page.
tracked() { git ls-files "$@" ':!tests/lint/planted' ':!tests/check_host/hosting_vmm.c'; }

# Names in C follow C's habits, not those of .clang-tidy.
tidy() { # FILE...: one run each, in parallel; the lines of one are not torn by another
  # shellcheck disable=SC2016 # the inner shell expands them
  printf '%s\0' "$@" | xargs -0 -n 1 -P "$(nproc)" bash -c '
    [[ $1 == *.c ]] && only=--checks=-readability-identifier-naming
    out=$(clang-tidy-14 --quiet -p build/lint ${only:+"$only"} "$1" 2>/dev/null) && exit
    printf "%s\n" "$out"
    exit 1' tidy
}

# Not cppcheck's "style": clang-tidy and -Wconversion say it better, or it is a matter of taste.
check_cpp() { # what cppcheck is to read
  cppcheck --quiet -j "$(nproc)" --enable=warning,performance,portability --inline-suppr \
    --error-exitcode=1 --library=tests/lint/boost_test.cfg -D__x86_64__=1 \
    --template='{file}:{line}: {severity}: {message} [{id}]' "$@" 2>&1
}

arrows() { python3 -B tests/lint/arrows.py "$@"; }

# A file of planted/ says in its first line which finding it is: "must be found: NAME". What arrows.py
# is to find begins with the folder that the file is judged as one of.
find_planted() {
  local file name out status=0
  for file in tests/lint/planted/*_*; do
    name=$(sed -n '1s/.*must be found: //p' "$file")
    case "$file" in
      */arrow_*) out=$(arrows "${name%% *}" "$file") ;;
      */tidy_*) out=$(tidy "$file") ;;
      */cppcheck_*) out=$(check_cpp "$file") ;;
      *) out=$(shellcheck "$file") ;;
    esac && out=
    [[ -n $name && $out == *"$name"* ]] && continue
    printf '%s: not found: %s\n%s\n' "$file" "$name" "$out"
    status=1
  done
  return "$status"
}

configure() { cmake --preset lint >build/log-lint.txt 2>&1 || ! cat build/log-lint.txt; }

failed=0
part() { # NAME COMMAND...
  local name=$1 begin=$SECONDS result=passed
  shift
  "$@" || result=FAILED failed=1
  printf '  %-10s %s in %d s\n' "$name" "$result" $((SECONDS - begin))
}

mkdir -p build
mapfile -t scripts < <(tracked '*.sh' '.ci/run')
mapfile -t sources < <(tracked "${chosen[@]}")
configure || exit 1
part planted find_planted
part arrows arrows
part shellcheck shellcheck "${scripts[@]}"
part cppcheck check_cpp --project=build/lint/compile_commands.json
part clang-tidy tidy "${sources[@]}"
exit "$failed"
