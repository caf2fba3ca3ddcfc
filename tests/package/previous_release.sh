#!/usr/bin/env bash
# Makes the packages of release 1.0.0 from its commit, for tests of upgrades. Run by hand:
#   bash tests/package/previous_release.sh
# leaves them in build/package-1.0.0. Exit status 77, with a line "SKIPPED: reason", where the history
# of the repository does not reach that far.
set -euo pipefail
cd "$(dirname "$0")/../.."
release=8a1f7ea1903446aad20132ad53c262ef15b60a9c
folder=build/package-1.0.0
git cat-file -e "$release^{commit}" 2>/dev/null || { echo "SKIPPED: no commit $release"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git archive "$release" | tar -x -C "$work"
{ cmake -S "$work" --preset package && cmake --build "$work/build/package" &&
  cpack --config "$work/build/package/CPackConfig.cmake" -B "$work/made"; } >"$work/log" 2>&1 ||
  { tail -n 30 "$work/log"; exit 1; }
mkdir -p "$folder"
cp "$work"/made/*.deb "$folder"
ls "$folder"
