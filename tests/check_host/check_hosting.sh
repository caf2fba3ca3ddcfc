#!/usr/bin/env bash
# Runs the command lines of HOSTING.md with the VMM that is made of its C pieces.
#   check_hosting.sh HOSTING.md HOSTING_VMM HOST_STUB HOST_CONFORMANCE
set -euo pipefail
page=$1 vmm=$2 stub=$3 plugin=$4
[[ -r /dev/kvm && -w /dev/kvm ]] || { echo "SKIPPED: no /dev/kvm" && exit 77; }
command -v pkg-config >/dev/null || { echo "SKIPPED: no pkg-config" && exit 77; }

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
ln -s "$vmm" my_vmm
ln -s "$stub" host_stub
printf 'plugindir=%s\nName: vmm-plugin\nDescription: of the build tree\nVersion: 1.0\n' \
  "$(dirname "$plugin")" >vmm-plugin.pc
export PATH=$folder:$PATH PKG_CONFIG_PATH=$folder

# the pieces between ```sh and ```
awk '/^```sh$/ { in_piece = 1; next } /^```$/ { in_piece = 0 } in_piece' "$page" >commands.sh
grep -q conformance-host commands.sh
bash -euo pipefail commands.sh >out.txt 2>err.txt || { cat out.txt err.txt && exit 1; }

# all but get_extension, hide_cpuid and get_supported_cpuid, which the page does not offer
grep -E 'FAIL|n/a ' out.txt | grep -vE '^VMM-(26|75|76|77) ' && cat out.txt && exit 1
grep -E '^[0-9]+ passed, 0 failed, 4 not applicable$' out.txt
grep -q '"failed": 0' verdict.json
