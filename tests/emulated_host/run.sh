#!/usr/bin/env bash
# A real kvm_amd with a live vPMU on any x86-64 machine: QEMU emulates an AMD CPU, a Debian kernel
# boots on it as the host, and an unmodified QEMU runs Linux guests on that kernel's KVM.
#   bash tests/emulated_host/run.sh [--kernel 5.10|6.1|6.12|6.18|newest] [--perfmonv2 N] [--mediated]
#                                   [--stock-qemu] [--case NAME]... [--list] [all|short]
#                                   [--suite SUITE] [-- COMMAND...]
# runs the cases of cases.ini, or COMMAND in the host, where the build tree is at its own path;
# passes on its output and exit status. "all" is every case on every host. Exit status 77, with a
# line "SKIPPED: reason", where it cannot be done. README.md has the rest.
set -euo pipefail
exec python3 -B "$(dirname "$0")/emulated_host.py" "$@"
