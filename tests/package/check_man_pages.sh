#!/usr/bin/env bash
# The manual pages are well-formed, and say all that --help and the plugin's options say.
#   check_man_pages.sh BUILD
set -euo pipefail
build=$1
for tool in man mandoc groff help2man; do
  command -v $tool >/dev/null || { echo "SKIPPED: no $tool"; exit 77; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0

for page in host_stub/host_stub.1 host_preload/vmm-run.1 plugin/tool/svm-pmu.1 plugin/svm_pmu.7 \
  abi/vmm_host.3; do
  { mandoc -T lint -W warning "$build/$page" || true
    groff -man -ww -T utf8 "$build/$page" 2>"$work/groff" >"$work/formatted"
    LC_ALL=C.UTF-8 man --warnings -l "$build/$page" 2>"$work/man" >"$work/formatted"
    cat "$work/groff" "$work/man"; } >"$work/warnings"
  [[ -s $work/warnings ]] || continue
  echo "$page has warnings:"
  cat "$work/warnings"
  status=1
done

shown() { LC_ALL=C MANWIDTH=200 man -E ascii -l "$build/$1" | col -b >"$work/text"; }
named() { # PAGE WORD
  grep -qF -- "$2" "$work/text" && return
  echo "$1 does not name $2"
  status=1
}
for program in host_stub/host_stub plugin/tool/svm-pmu; do
  name=${program##*/}
  shown "$program.1"
  for word in $("$build/$program" --help-all | grep -oE '^  --[a-z-]+'); do
    named "$name(1)" "$word"
  done
  for word in $("$build/$program" --help | sed -nE 's/^  ([a-z-]+)  .*/\1/p'); do
    named "$name(1)" "$name $word:"
  done
done
shown host_preload/vmm-run.1
for word in $("$build/host_preload/vmm-run" --help | grep -oE '^  --[a-z-]+|VMM_[A-Z_]+'); do
  named "vmm-run(1)" "$word"
done
shown plugin/svm_pmu.7
for word in pmu-cap-disabled= pmu-off-method= log-level= svm_pmu.so; do
  named "svm_pmu(7)" "$word"
done
shown abi/vmm_host.3
while read -r word; do
  named "vmm_host(3)" "$word"
done < <(grep -oE 'vmm_host_[a-z_]+\(' "$build/../../abi/include/vmm/host.h" | sort -u)
exit "$status"
