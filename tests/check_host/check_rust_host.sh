#!/usr/bin/env bash
# The host in Rust of the examples: compiled against libvmm_host, run on a simulated /dev/kvm.
#   check_rust_host.sh SOURCE LIBRARY PLUGIN SIM_DEV_KVM
set -euo pipefail
source=$1 library=$2 plugin=$3 simulated=$4
command -v rustc >/dev/null || { echo "SKIPPED: no rustc"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rustc -D warnings -L "$(dirname "$library")" -l vmm_host "$source" -o "$work/rust_host"
run() { LD_LIBRARY_PATH=$(dirname "$library") LD_PRELOAD=$simulated SIM_DEV_KVM=sim:linux-6.12 \
  "$work/rust_host" "$1" 2>&1; }
says() { # OPTIONS WORDS
  out=$(run "$plugin$1") || true
  grep -qF -- "$2" <<<"$out" || { echo "with '$1': no '$2' in: $out"; exit 1; }
}
says '' "a vCPU's state is 208 bytes"
says ,pmu-cap-disabled=on,log-level=info 'log 300: svm_pmu: vPMU disabled'
says ,pmu-cap-disabled=on "a vCPU's state is 0 bytes"
says ,bad=1 "open: -22: svm_pmu: options: unknown key 'bad'"
