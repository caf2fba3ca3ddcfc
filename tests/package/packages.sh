# shellcheck shell=bash disable=SC2034 # the scripts that source it read status
# Sourced by the checks of both kinds of packages: a folder to work in, and what both kinds say.
# Sets work and status.
need() { # TOOL...
  local tool
  for tool in "$@"; do
    command -v "$tool" >/dev/null || { echo "SKIPPED: no $tool"; exit 77; }
  done
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0
complain() { echo "$*"; status=1; }
synopsis_of() { # PACKAGE: as it is named as .deb or as .rpm
  case $1 in
    svm-pmu) echo "fixes for KVM's AMD vPMU, for any virtual machine monitor" ;;
    libvmm-host1) echo 'plugins inside a virtual machine monitor, as a C library' ;;
    svm-pmu-dev | svm-pmu-devel) echo 'stable C ABI for plugins of virtual machine monitors' ;;
    svm-pmu-dbgsym | svm-pmu-debuginfo) echo 'debug symbols for svm-pmu' ;;
  esac
}
