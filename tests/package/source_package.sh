#!/usr/bin/env bash
# debian/ builds: dpkg-buildpackage, with its tests, and lintian has nothing to say. Run by hand:
#   bash tests/package/source_package.sh [FOLDER]
# builds HEAD in a temporary folder and looks at the packages, which are left in FOLDER. Takes some
# minutes; exit status 77, with a line "SKIPPED: reason", where it cannot be done.
set -euo pipefail
cd "$(dirname "$0")/../.."
skip() {
  echo "SKIPPED: $1"
  exit 77
}
for tool in git dpkg-buildpackage dh lintian python3; do
  command -v $tool >/dev/null || skip "no $tool"
done
missing=$(dpkg-checkbuilddeps debian/control 2>&1) || skip "$missing"
kept=
if (($#)); then
  mkdir -p "$1"
  kept=$(realpath "$1")
fi
[[ -z $(git status --porcelain) ]] || echo "note: what is not committed is left out"
version=$(dpkg-parsechangelog -S Version)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
source=$work/svm-pmu-${version%-*}
git archive --prefix="${source##*/}/" HEAD | tar -x -C "$work"

cd "$source"
nice dpkg-buildpackage -us -uc -b >"$work/log" 2>&1 || { tail -n 40 "$work/log"; exit 1; }
grep -q '^100% tests passed' "$work/log" || { echo "the tests were not run"; exit 1; }
cd "$work"
# it is no upload to Debian, which a bug of Debian's would announce
lintian --allow-root --fail-on error,warning --suppress-tags initial-upload-closes-no-bugs ./*.changes

status=0
complain() { echo "$*"; status=1; }
arch=$(dpkg --print-architecture)
for name in svm-pmu libvmm-host1 svm-pmu-dev svm-pmu-dbgsym libvmm-host1-dbgsym; do
  [[ -e ${name}_${version}_$arch.deb ]] || complain "no package $name"
done
depends() { dpkg-deb -f "$1_${version}_$arch.deb" Depends; }
[[ $(depends svm-pmu) == *libboost-program-options*libfmt*libstdc++6* ]] ||
  complain "svm-pmu is not linked to the system's libraries: $(depends svm-pmu)"
[[ $(depends libvmm-host1) == *libstdc++6* ]] || complain "libvmm-host1: $(depends libvmm-host1)"
for name in svm-pmu libvmm-host1 svm-pmu-dev; do
  dpkg-deb -x "${name}_${version}_$arch.deb" root
  sbom=root/usr/share/doc/$name/$name.$(uname -m).spdx.json
  python3 -m json.tool "$sbom" /dev/null || complain "$name has no SBOM"
done
for page in svm-pmu/README svm-pmu-dev/ABI; do
  [[ -s root/usr/share/doc/$page.md ]] || complain "no $page.md"
done
program=root/usr/bin/host_stub
"$program" run --quiet --plugin root/usr/lib/*/vmm/plugins/svm_pmu.so >said 2>&1 ||
  { cat said; complain "host_stub run fails"; }
((status == 0)) || exit 1
if [[ $kept ]]; then cp ./*.deb "$kept"; fi
echo "dpkg-buildpackage: $(grep '^100% tests passed' log); lintian says nothing"
for each in ./*.deb; do
  printf '%9d  %s  %s\n' "$(stat -c %s "$each")" "$(sha256sum "$each" | cut -d' ' -f1)" "${each#./}"
done
