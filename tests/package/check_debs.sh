#!/usr/bin/env bash
# Makes the packages of a build and looks at what is in them.
#   check_debs.sh SOURCE BUILD VERSION PREFIX LIBDIR
set -euo pipefail
source=$1 build=$2 version=$3 prefix=$4 libdir=$5
for tool in dpkg-deb dpkg-shlibdeps help2man; do
  command -v $tool >/dev/null || { echo "SKIPPED: no $tool"; exit 77; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0
complain() { echo "$*"; status=1; }

cpack --config "$build/CPackConfig.cmake" -B "$work" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
arch=$(dpkg --print-architecture)
runtime=$work/svm-pmu_$version-1_$arch.deb devel=$work/svm-pmu-dev_$version-1_$arch.deb
[[ -e $runtime && -e $devel ]] || { ls "$work"; complain "the packages' names are others"; exit 1; }

# ---- what is in them
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
  "$libdir"/libvmm_host.{a,"so.$version"} "$libdir"/pkgconfig/vmm-{host,plugin}.pc \
  "$libdir"/cmake/vmm-host/vmm-host-{config,config-version,targets,targets-relwithdebinfo}.cmake \
  share/cmake/vmm-plugin-abi/vmm-plugin-abi-config{,-version}.cmake
for deb in "$runtime" "$devel"; do
  name=$(dpkg-deb -f "$deb" Package)
  for file in copyright changelog.gz changelog.Debian.gz; do
    files "$deb" | grep -qx "$prefix/share/doc/$name/$file" || complain "$name has no $file"
  done
  dpkg-deb -c "$deb" | awk '{ print $1, $2 }' | sort -u >"$work/modes"
  [[ $(cat "$work/modes") == "$(printf '%s root/root\n' -rw-r--r-- -rwxr-xr-x drwxr-xr-x lrwxrwxrwx |
    grep -Ff <(cut -d' ' -f1 "$work/modes"))" ]] || complain "$name: $(tr '\n' ';' <"$work/modes")"
  dpkg-deb -x "$deb" "$root"
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

# ---- fields
depends=$(dpkg-deb -f "$runtime" Depends)
[[ $depends == 'libc6 (>= '*')' ]] || complain "svm-pmu depends on more than libc6: $depends"
[[ $(dpkg-deb -f "$devel" Depends) == *linux-libc-dev* ]] || complain "svm-pmu-dev: linux-libc-dev"
[[ $(dpkg-deb -f "$runtime" Suggests) == svm-pmu-dev ]] || complain "Suggests"
[[ $(dpkg-deb -f "$devel" Recommends) == "svm-pmu (= $version-1)" ]] || complain "Recommends"

# ---- stripped, and running from where they were unpacked
for file in bin/{host_stub,svm-pmu,vmm-run} "$libdir/vmm/plugins/svm_pmu.so" \
  "$libdir/vmm/plugins/host_conformance.so" "$libdir/vmm-preload/libvmm_preload.so"; do
  readelf -SW "$root$prefix/$file" | grep -qE '\.(symtab|debug_info)' && complain "$file: not stripped"
done
"$root$prefix/bin/host_stub" run --quiet --plugin "$root$prefix/$libdir/vmm/plugins/svm_pmu.so" \
  >"$work/run" || { cat "$work/run"; complain "host_stub run fails"; }
PATH=$root$prefix/bin:$PATH PKG_CONFIG_PATH=$root$prefix/$libdir/pkgconfig \
  "$source/tests/package/consumer/versions_agree.sh" "$source" "$root$prefix" "$version" \
  "$runtime" "$devel" || status=1
exit "$status"
