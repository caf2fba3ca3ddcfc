#!/usr/bin/env bash
# The main job: both bugs of AMD VMs without the plugin and with it, side by side, on a simulated
# KVM, then in the words of a real Linux guest on a real kvm_amd, which an emulated AMD host runs
# (two minutes more; needs neither an AMD CPU nor /dev/kvm), and then the plugin at work on this
# machine's own /dev/kvm. Installs what is missing, builds, runs.
# Exit status 0 only if each bug showed without the plugin and was gone with it.
set -euo pipefail
cd "$(dirname "$0")/.."

bash tests/install_packages.sh build
log=$(mktemp)
work=$(mktemp -d)
trap 'rm -rf "$log" "$work"' EXIT
if ! { cmake --preset release && cmake --build --preset release --target host_stub svm_pmu vmm_preload vmm-run; } \
  >"$log" 2>&1; then
  cat "$log" >&2
  echo "demo: the build failed" >&2
  exit 1
fi
stub=build/release/host_stub/host_stub
plugin=build/release/plugin/svm_pmu.so

bold='' red='' green='' plain=''
if [[ -t 1 ]]; then
  bold=$'\033[1m' red=$'\033[31m' green=$'\033[32m' plain=$'\033[0m'
fi
failures=0

title() { printf '\n%s%s%s\n' "$bold" "$1" "$plain"; }

# guest_lines FILE ARGUMENT...: runs a scenario, leaves its steps and guest lines in FILE, returns
# its exit status.
guest_lines() {
  local file=$1 status=0
  shift
  "$stub" run --quiet "$@" >"$work/transcript" 2>&1 || status=$?
  sed -n -e 's/^== create: /on /p' -e 's/^== .*WRONG: /-> WRONG: /p' -e 's/^== \(.*\)/[\1]/p' \
    -e 's/^  guest| //p' -e 's/^  log  | //p' "$work/transcript" >"$file"
  return "$status"
}

side_by_side() { # LEFT RIGHT
  local half=57
  printf '%-*s | %s\n' "$half" "without the plugin" "with the plugin"
  printf '%s\n' "$(printf '%*s' $((half + 1)) '' | tr ' ' '-')+$(printf '%*s' "$half" '' | tr ' ' '-')"
  fold -s -w "$half" "$1" >"$work/left"
  fold -s -w "$half" "$2" >"$work/right"
  local left right more=1
  while ((more)); do
    more=0 left='' right=''
    IFS= read -r left <&3 && more=1
    IFS= read -r right <&4 && more=1
    ((more)) && printf '%-*s | %s\n' "$half" "${left%% }" "${right%% }"
  done 3<"$work/left" 4<"$work/right"
  return 0
}

verdict() { # TEXT STATUS...: each STATUS must be "ok"
  local text=$1 good=1 status
  shift
  for status in "$@"; do [[ $status == ok ]] || good=0; done
  if ((good)); then
    printf '%sok%s: %s\n' "$green" "$plain" "$text"
  else
    printf '%sFAILED%s: %s\n' "$red" "$plain" "$text"
    failures=$((failures + 1))
  fi
}

says() { grep -qF -- "$2" "$1" && echo ok || echo missing; }
says_not() { grep -qF -- "$2" "$1" && echo present || echo ok; }

no_pmu="PMU not available due to virtualization, using software events only."
bios="the BIOS has corrupted hw-PMU resources (MSR c0010200 is 530076)"

title "Bug 1: the vPMU cannot be switched off (simulated kernel 6.12)"
guest_lines "$work/a" --scenario boot || true
guest_lines "$work/b" --scenario boot --plugin "$plugin" \
  --options pmu-cap-disabled=true,log-level=info || true
side_by_side "$work/a" "$work/b"
verdict "pmu-cap-disabled=true: the guest finds no PMU" \
  "$(says "$work/a" 'AMD PMU driver.')" "$(says "$work/b" "$no_pmu")"

title "Bug 1 on a kernel without the capability (simulated kernel 5.10)"
guest_lines "$work/a" --kvm sim:linux-5.10 --scenario boot || true
guest_lines "$work/b" --kvm sim:linux-5.10 --scenario boot --plugin "$plugin" \
  --options pmu-cap-disabled=true,log-level=info || true
side_by_side "$work/a" "$work/b"
verdict "the MSR deny filter does it there" \
  "$(says "$work/a" 'AMD PMU driver.')" "$(says "$work/b" "$no_pmu")"

title "Bug 2: PMU registers survive a reset while perf runs (simulated kernel 6.12, 2 vCPUs)"
guest_lines "$work/a" --vcpus 2 --scenario boot,perf,reset,boot || true
guest_lines "$work/b" --vcpus 2 --scenario boot,perf,reset,boot --plugin "$plugin" || true
side_by_side "$work/a" "$work/b"
verdict "no firmware bug and no unknown NMI after the reset" \
  "$(says "$work/a" "$bios")" "$(says "$work/a" 'Uhhuh. NMI received')" \
  "$(says_not "$work/b" 'Broken BIOS')" "$(says_not "$work/b" 'Uhhuh')"

title "Bug 2 with PerfMonV2 (simulated kernel 6.12 on a PerfMonV2 host)"
v2=(--kvm "sim:linux-6.12,host-perfmonv2" --cpuid v2 --scenario "boot,perf,reset,boot,perf")
guest_lines "$work/a" "${v2[@]}" || true
v2_status=ok
guest_lines "$work/b" "${v2[@]}" --plugin "$plugin" || v2_status=wrong
side_by_side "$work/a" "$work/b"
verdict "GLOBAL_CTL is left at (1 << n) - 1, so perf counts after the reset, too" \
  "$(says "$work/a" 'Broken BIOS')" "$(says_not "$work/b" 'Broken BIOS')" "$v2_status"

# ---- a real guest: Debian's own QEMU emulates the AMD host, so that nothing has to be built. Its
# Linux 5.10 knows no KVM_PMU_CAP_DISABLE: -pmu has no effect, and the plugin takes the MSR filter.
real_words=', by the simulated KVM only'
# emulated SIDE...: what the guests said, in $work/CASE-SIDE; returns 77 if it cannot be done
emulated() {
  local cases=() side status=0
  for side in "$@"; do cases+=(--case "$side"); done
  bash tests/emulated_host/run.sh --stock-qemu "${cases[@]}" >"$work/emulated" || status=$?
  for side in "$@"; do
    sed -n -e "/^-- ${side%/*}:/,/^-- /s/^${side#*/} *boot \\([0-9]\\) | /\\1 /p" "$work/emulated" |
      awk '$1 != boot { print ($1 == 1 ? "[boot]" : "[after a reset]") }
        { boot = $1; if ($2 != "CYCLES") print substr($0, 3) }' >"$work/${side//\//-}"
  done
  return "$status"
}
title "A real Linux 6.1 guest, a real kvm_amd (Linux 5.10 as the host on an emulated AMD CPU)"
emulated_status=0
if ! bash tests/install_packages.sh emulated_host >"$log" 2>&1; then
  emulated_status=77
  echo "SKIPPED: $(tail -n 1 "$log")"
else
  echo "two minutes: the host boots, and in it an unmodified QEMU three times ..."
  emulated off/without off/with defaults/with || emulated_status=$?
fi
case $emulated_status in
  0)
    echo "Bug 1, QEMU with -cpu host,-pmu; pmu-cap-disabled=on"
    side_by_side "$work/off-without" "$work/off-with"
    verdict "the guest finds no PMU" "$(says "$work/off-without" 'AMD PMU driver.')" \
      "$(says "$work/off-with" "$no_pmu")"
    echo "Bug 2; the plugin's default options"
    side_by_side "$work/off-without" "$work/defaults-with"
    verdict "no PMU register survives the reset" \
      "$(says "$work/off-without" 'Broken BIOS detected')" \
      "$(says "$work/defaults-with" 'AMD PMU driver.')" \
      "$(says_not "$work/defaults-with" 'Broken BIOS')"
    real_words=', in the words of a real guest, too'
    ;;
  77) sed -n '/^SKIPPED/p' "$work/emulated" 2>/dev/null || true ;;
  *)
    cat "$work/emulated"
    verdict "the guests in the emulated host" wrong
    ;;
esac

title "The same plugin on the real /dev/kvm"
kvm_words="; /dev/kvm does not open here, so nothing was shown on it"
if [[ -r /dev/kvm && -w /dev/kvm ]]; then
  kvm_status=ok
  "$stub" run --kvm /dev/kvm --vcpus 2 --plugin "$plugin" \
    --options pmu-cap-disabled=true,log-level=info --scenario boot,reset,boot \
    >"$work/k" 2>&1 || kvm_status=wrong
  cat "$work/k"
  verdict "vm_created, msr_list_build and vcpu_reset ran on the real KVM; the guest finds no PMU" \
    "$kvm_status" "$(says "$work/k" 'vcpu_reset(vCPU 1) = 0')" \
    "$(says "$work/k" 'software events only.')"
  kvm_words=", and the plugin ran on the real /dev/kvm"
else
  echo "SKIPPED: /dev/kvm does not open here (is the kvm module loaded, may you open it?)"
fi

if ((failures)); then
  printf '\n%sdemo: %d of the checks FAILED%s\n' "$red" "$failures" "$plain"
  exit 1
fi
printf '\n%sFixed: with the plugin a VM can be without vPMU, and no PMU register survives a reset%s%s%s.\n' \
  "$bold" "$real_words" "$kvm_words" "$plain"
