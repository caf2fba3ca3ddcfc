#!/usr/bin/env bash
# The installed vmm-run finds its preload library and a plugin by its bare name, also when the whole
# prefix was moved elsewhere.
#   plugin_by_name.sh PREFIX
set -euo pipefail
[[ -w /dev/kvm ]] || { echo "SKIPPED: /dev/kvm cannot be opened"; exit 77; }
moved=$(mktemp -d)
trap 'rm -rf "$moved"' EXIT
cp -r "$1"/. "$moved"
for prefix in "$1" "$moved"; do
  for name in svm_pmu svm_pmu.so; do
    # the launcher leaves what it found in the program's environment
    plugins=$("$prefix/bin/vmm-run" --plugin $name,strict=on -- printenv VMM_PLUGINS)
    file=$(realpath "${plugins%%,*}")
    [[ $file == "$(realpath "$prefix")"/* && $plugins == *,strict=on ]] ||
      { echo "$prefix: vmm-run --plugin $name found '$plugins'"; exit 1; }
  done
done
