#!/usr/bin/env bash
# Makes the .rpm of a build, twice, and looks at what is in them.
#   check_rpms.sh BUILD VERSION PREFIX LIBDIR HOMEPAGE
set -euo pipefail
build=$1 version=$2 prefix=$3 libdir=$4 homepage=$5
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/package/packages.sh
. "$here/packages.sh"
need rpmbuild help2man

"$here/pack_twice.sh" "$build" RPM "$work" || exit 1
arch=$(uname -m)
names=(libvmm-host1 svm-pmu svm-pmu-debuginfo svm-pmu-devel)
wanted=${names[*]/%/-$version-1.$arch.rpm}
[[ $(cd "$work" && echo *.rpm) == "$wanted" ]] ||
  { ls "$work"; complain "the packages' names are others"; exit 1; }
query() { rpm --query --package --queryformat "$2\n" "$work/$1-$version-1.$arch.rpm"; }

for name in "${names[@]}"; do
  rpm=$work/$name-$version-1.$arch.rpm
  [[ $(query "$name" '%{SUMMARY}') == "$(synopsis_of "$name")" ]] || complain "$name: %SUMMARY"
  [[ $(query "$name" '%{URL} %{VCS}') == "$homepage git:$homepage"*.git ]] || complain "$name: URL, VCS"
  [[ $(query "$name" '%{BUILDHOST} %{PREFIXES}') == 'localhost (none)' ]] ||
    complain "$name: host, prefixes: $(query "$name" '%{BUILDHOST} %{PREFIXES}')"
  [[ $(query "$name" '%{LICENSE}') == 'MIT AND BSL-1.0 AND CC0-1.0 AND GPL-'* ]] ||
    complain "$name: licence"
  query "$name" '[%{FILEMODES:perms} %{FILEUSERNAME} %{FILEGROUPNAME}\n]' | sed '/^$/d' | sort -u >"$work/modes"
  [[ $(cat "$work/modes") == "$(printf '%s root root\n' -rw-r--r-- -rwxr-xr-x drwxr-xr-x \
    lrwxrwxrwx | grep -Ff <(cut -d' ' -f1 "$work/modes"))" ]] ||
    complain "$name: $(tr '\n' ';' <"$work/modes")"
  # what it needs: glibc, not newer than 2.17
  rpm --query --package --requires "$rpm" >"$work/requires"
  while read -r each; do
    case $each in
      rpmlib\(* | rtld\(* | /bin/sh) ;;
      ld-linux-x86-64.so.2\(* | libc.so.6\(* | libdl.so.2\(* | libpthread.so.0\(*)
        if [[ $each =~ GLIBC_([0-9.]+) ]]; then
          [[ $(printf '%s\n' "${BASH_REMATCH[1]}" 2.17 | sort -V | tail -n 1) == 2.17 ]] ||
            complain "$name needs $each"
        fi
        ;;
      /usr/bin/pkg-config | glibc-devel | "libvmm-host1 = $version-1")
        [[ $name == svm-pmu-devel ]] || complain "$name needs $each" ;;
      *) complain "$name needs $each" ;;
    esac
  done <"$work/requires"
done
grep -qxF "libvmm-host1 = $version-1" "$work/requires" || complain "svm-pmu-devel: libvmm-host1"

provided() { rpm --query --package --provides "$work/$1-$version-1.$arch.rpm" | sed 's/ .*//'; }
provided libvmm-host1 | grep -xF 'libvmm_host.so.1()(64bit)' >/dev/null || complain "libvmm-host1: no library"
[[ $(provided svm-pmu | sort -u | tr '\n' ' ') == "svm-pmu svm-pmu(x86-64) " ]] ||
  complain "svm-pmu provides $(provided svm-pmu)"
for name in "${names[@]}"; do
  rpm --query --package --list "$work/$name-$version-1.$arch.rpm" >"$work/$name.files"
done
has() { # PACKAGE FILE
  grep -qxF "$prefix/$2" "$work/$1.files" || complain "$1 has no $2"
}
for file in bin/{host_stub,svm-pmu,vmm-run} "$libdir/vmm/plugins/svm_pmu.so" \
  "$libdir/vmm-preload/libvmm_preload.so" share/man/man7/svm_pmu.7.gz; do
  has svm-pmu "$file"
done
has libvmm-host1 "$libdir/libvmm_host.so.1"
has svm-pmu-devel include/vmm/plugin.h
((7 == $(grep -c '\.debug$' "$work/svm-pmu-debuginfo.files"))) ||
  complain "not debug information of 7 files"
exit "$status"
