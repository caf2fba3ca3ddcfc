#!/usr/bin/env bash
# Makes the packages of a build into FOLDER, and once more with another umask, time zone, language
# and, as root, host name: both must be the same, byte for byte.
#   pack_twice.sh BUILD DEB|RPM FOLDER
# That the same sources also build to the same files is reproducible.sh's.
set -euo pipefail
build=$1 kind=$2 folder=$3
again=$(mktemp -d)
trap 'rm -rf "$again"' EXIT
pack() { # FOLDER COMMAND-PREFIX...
  local to=$1
  shift
  "$@" cpack --config "$build/CPackConfig.cmake" -G "$kind" -B "$to" >"$to/log" 2>&1 ||
    { cat "$to/log"; exit 1; }
}
(umask 022 && pack "$folder" env TZ=UTC0 LC_ALL=C)
elsewhere=(env TZ=Asia/Kolkata LC_ALL=C.UTF-8 SOURCE_DATE_EPOCH=1)
if ((EUID == 0)) && unshare --uts true 2>/dev/null; then
  # shellcheck disable=SC2016 # for the shell in there
  elsewhere+=(unshare --uts sh -c 'hostname another-machine.invalid && exec "$@"' sh)
fi
(umask 077 && pack "$again" "${elsewhere[@]}")
status=0
for package in "$folder"/*."${kind,,}"; do cmp "$package" "$again/${package##*/}" || status=1; done
exit $status
