#!/usr/bin/env bash
# Completion offers the commands and options that --help has.
#   check_completion.sh SOURCE BUILD
set -euo pipefail
source=$1 build=$2
PATH=$build/host_stub:$build/host_preload:$build/plugin/tool:$PATH
# shellcheck disable=SC1091 # looked at on its own
. "$source/plugin/tool/completion/bash"
expect() { # LINE WORD...: completing the line's last word gives all of them, "!WORD" not
  local line=$1 word
  shift
  read -r -a COMP_WORDS <<<"$line"
  [[ $line != *' ' ]] || COMP_WORDS+=('')
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
  COMPREPLY=()
  _svm_pmu
  for word; do
    if [[ $word == !* ]]; then
      [[ " ${COMPREPLY[*]} " != *" ${word#!} "* ]] || { echo "'$line' offers ${word#!}"; exit 1; }
    else
      [[ " ${COMPREPLY[*]} " == *" $word "* ]] ||
        { echo "'$line' does not offer $word, but: ${COMPREPLY[*]}"; exit 1; }
    fi
  done
}
expect 'svm-pmu ' probe explain status
expect 'svm-pmu st' status '!probe'
expect 'svm-pmu status --' --format --json --require-plugin '!--plugin'
expect 'svm-pmu probe --o' --options '!--json'
expect 'host_stub ' run validate probe facts
expect 'host_stub run --sc' --scenario
expect 'vmm-run --' --plugin --check --log --require-kvm
expect 'vmm-run --plugin svm_pmu.so -- qemu-system-x86_64 -' '!--plugin'
zsh=$(command -v zsh || true)
[[ -z $zsh ]] || "$zsh" -n "$source/plugin/tool/completion/zsh"
