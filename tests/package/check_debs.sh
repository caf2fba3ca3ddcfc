#!/usr/bin/env bash
# Makes the Debian packages of a build, twice, and looks at what is in them.
#   check_debs.sh SOURCE BUILD VERSION PREFIX LIBDIR HOMEPAGE
set -euo pipefail
source=$1 build=$2 version=$3 prefix=$4 libdir=$5 homepage=$6
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/package/packages.sh
. "$here/packages.sh"
need dpkg-deb help2man python3

"$here/pack_twice.sh" "$build" DEB "$work" || exit 1
arch=$(dpkg --print-architecture)
runtime=$work/svm-pmu_$version-1_$arch.deb devel=$work/svm-pmu-dev_$version-1_$arch.deb
library=$work/libvmm-host1_$version-1_$arch.deb symbols=$work/svm-pmu-dbgsym_$version-1_$arch.deb
packages=("$runtime" "$library" "$devel" "$symbols")
[[ $(printf '%s\n' "$work"/*.deb) == "$(printf '%s\n' "${packages[@]}" | sort)" ]] ||
  { ls "$work"; complain "the packages' names are others"; exit 1; }

# ---- what is in them, and what they say of themselves
declare -A multi_arch=([svm-pmu]=no [libvmm-host1]=same [svm-pmu-dev]=same [svm-pmu-dbgsym]=same)
root=$work/root
files() { dpkg-deb -c "$1" | awk '$1 ~ /^-/ { print substr($6, 2) }' | sort; }
expect() { # PACKAGE FILE...
  local deb=$1
  shift
  diff -u --label expected --label "$(basename "$deb")" <(printf "$prefix/%s\n" "$@" | sort) \
    <(files "$deb" | grep -v "$prefix/share/doc/") || status=1
}
expect "$runtime" bin/{host_stub,svm-pmu,vmm-run} "$libdir/vmm/plugins/svm_pmu.so" \
  "$libdir/vmm-preload/libvmm_preload.so" lib/svm-pmu/{libvirt-hook,apparmor-libvirt-qemu} \
  share/bash-completion/completions/{host_stub,svm-pmu,vmm-run} \
  share/zsh/vendor-completions/_svm-pmu share/man/man1/{host_stub,svm-pmu,vmm-run}.1.gz share/man/man7/svm_pmu.7.gz
expect "$devel" "$libdir/vmm/plugins/host_conformance.so" include/vmm/{plugin,plugin_helper,guest_pmu,host,kvm_uapi,vm_state}.h \
  share/man/man3/vmm_host.3.gz \
  "$libdir"/libvmm_host.a "$libdir"/pkgconfig/vmm-{host,plugin}.pc \
  "$libdir"/cmake/vmm-host/vmm-host-{config,config-version,targets,targets-relwithdebinfo}.cmake \
  share/cmake/vmm-plugin-abi/vmm-plugin-abi-config{,-version}.cmake
expect "$library" "$libdir/libvmm_host.so.$version"
for deb in "${packages[@]}"; do
  name=$(dpkg-deb -f "$deb" Package)
  for file in copyright changelog.gz changelog.Debian.gz; do
    files "$deb" | grep -x "$prefix/share/doc/$name/$file" >/dev/null || complain "$name has no $file"
  done
  dpkg-deb -c "$deb" | awk '{ print $1, $2 }' | sort -u >"$work/modes"
  [[ $(cat "$work/modes") == "$(printf '%s root/root\n' -rw-r--r-- -rwxr-xr-x drwxr-xr-x lrwxrwxrwx |
    grep -Ff <(cut -d' ' -f1 "$work/modes"))" ]] || complain "$name: $(tr '\n' ';' <"$work/modes")"
  [[ $(dpkg-deb -f "$deb" Homepage) == "$homepage" ]] || complain "$name: Homepage"
  [[ $(dpkg-deb -f "$deb" Description | head -n 1) == "$(synopsis_of "$name")" ]] ||
    complain "$name: $(dpkg-deb -f "$deb" Description | head -n 1)"
  [[ $(dpkg-deb -f "$deb" Multi-Arch) == "${multi_arch[$name]}" ]] || complain "$name: Multi-Arch"
  dpkg-deb -x "$deb" "$root"
  [[ $deb != "$symbols" ]] || continue
  sbom=$prefix/share/doc/$name/$name.$(uname -m).spdx.json
  dpkg-deb -x "$deb" "$work/$name"
  python3 -B "$here/check_sbom.py" "$work/$name/$sbom" "$work/$name" || status=1
done
grep -q "^Copyright: 20" "$root$prefix/share/doc/svm-pmu/copyright" || complain "copyright: of whom?"

# ---- pages: what they link to is installed
for page in "$root$prefix"/share/doc/svm-pmu{,/host_preload}/README.md \
  "$root$prefix"/share/doc/svm-pmu-dev/{ABI,HOSTING,PLUGINS}.md; do
  [[ -s $page ]] || complain "no $page"
  while read -r link; do
    [[ -e $(dirname "$page")/$link ]] || complain "$(basename "$page"): nothing at $link"
  done < <(grep -oP '\]\(\K[^)#:]+(?=[)#])' "$page" | sort -u)
done

# ---- dependencies: the newest glibc that the files ask for, and no other library
for deb in "${packages[@]:0:3}"; do
  name=$(dpkg-deb -f "$deb" Package)
  newest=$({ find "$work/$name" -type f -exec objdump -T {} + 2>/dev/null || true; } |
    grep -oP '\(GLIBC_\K[0-9.]+(?=\))' | sort -V | tail -n 1)
  [[ ", $(dpkg-deb -f "$deb" Depends)," =~ ', libc6 (>= '([0-9.]+)'),' ]] || complain "$name: no libc6"
  dpkg --compare-versions "${BASH_REMATCH[1]}" ge "$newest" ||
    complain "$name depends on glibc ${BASH_REMATCH[1]}; its files ask for $newest"
  dpkg --compare-versions "${BASH_REMATCH[1]}" le 2.17 || complain "$name: glibc ${BASH_REMATCH[1]}"
done
for deb in "$runtime" "$library"; do
  [[ $(dpkg-deb -f "$deb" Depends) == 'libc6 (>= '*')' && $(dpkg-deb -f "$deb" Depends) != *,* ]] ||
    complain "$deb depends on more than libc6: $(dpkg-deb -f "$deb" Depends)"
done
[[ $(dpkg-deb -f "$devel" Depends) == *linux-libc-dev* ]] || complain "svm-pmu-dev: linux-libc-dev"
[[ $(dpkg-deb -f "$devel" Depends) == *"libvmm-host1 (= $version-1)"* ]] ||
  complain "svm-pmu-dev: libvmm-host1"
[[ $(dpkg-deb -f "$runtime" Suggests) == svm-pmu-dev ]] || complain "Suggests"
[[ $(dpkg-deb -f "$devel" Recommends) == "svm-pmu (= $version-1)" ]] || complain "Recommends"
[[ $(dpkg-deb -I "$library" shlibs) == 'libvmm_host 1 libvmm-host1 (>= '* ]] || complain "shlibs"
[[ -L $work/libvmm-host1$prefix/$libdir/libvmm_host.so.1 && \
  -L $work/svm-pmu-dev$prefix/$libdir/libvmm_host.so ]] || complain "libvmm_host has no links"
[[ $(dpkg-deb -I "$library" triggers) == 'activate-noawait ldconfig' ]] || complain "triggers"

# ---- stripped, with their debug information in the other package, and running where they are
for file in bin/{host_stub,svm-pmu,vmm-run} "$libdir/vmm/plugins/svm_pmu.so" \
  "$libdir/vmm/plugins/host_conformance.so" "$libdir/vmm-preload/libvmm_preload.so" \
  "$libdir/libvmm_host.so.$version"; do
  # into a variable: grep -q would end readelf by SIGPIPE, which pipefail takes for a failure
  sections=$(readelf -SW "$root$prefix/$file")
  grep -qE '\.(symtab|debug_info)' <<<"$sections" && complain "$file: not stripped"
  id=$(readelf -n "$root$prefix/$file" | sed -n 's/.*Build ID: //p')
  debug=$root$prefix/lib/debug/.build-id/${id:0:2}/${id:2}.debug
  sections=$(readelf -SW "$debug") || true
  [[ $sections == *.debug_info* ]] || complain "$file: no debug information"
  for folder in "$source" "$build"; do
    readelf -zp .debug_str -p .debug_line_str "$debug" | grep -F -m 1 "$folder" &&
      complain "$file names a folder of this machine"
  done
done
plugin=$libdir/vmm/plugins/svm_pmu.so
id=$(readelf -n "$root$prefix/$plugin" | sed -n 's/.*Build ID: //p')
[[ $(addr2line -e "$root$prefix/lib/debug/.build-id/${id:0:2}/${id:2}.debug" \
  "$(nm -D "$root$prefix/$plugin" | sed -n 's/ T vmm_plugin_v1.*//p')") == *plugin/entry.cpp:* ]] ||
  complain "svm-pmu-dbgsym does not say where vmm_plugin_v1 is"
"$root$prefix/bin/host_stub" run --quiet --plugin "$root$prefix/$libdir/vmm/plugins/svm_pmu.so" \
  >"$work/run" || { cat "$work/run"; complain "host_stub run fails"; }
PATH=$root$prefix/bin:$PATH PKG_CONFIG_PATH=$root$prefix/$libdir/pkgconfig \
  "$source/tests/package/consumer/versions_agree.sh" "$source" "$root$prefix" "$version" \
  "${packages[@]}" || status=1
exit "$status"
