#!/usr/bin/env bash
# Whoever says the project's version or the ABI's says the same.
#   versions_agree.sh SOURCE PREFIX VERSION [PACKAGE.deb...]
# VERSION: the project's, of CMake. The ABI's is that of the installed plugin.h.
set -euo pipefail
source=$1 prefix=$2 version=$3
shift 3
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0

agree() { # WHAT SAYS WANTED
  [[ $2 == "$3" ]] && return
  echo "$1 says '$2', not '$3'"
  status=1
}
macro() { sed -nE "s/^#define VMM_PLUGIN_ABI_$1 ([0-9]+)u$/\1/p" "$prefix/include/vmm/plugin.h"; }

abi=$(macro MAJOR).$(macro MINOR)
agree "svm-pmu --version" "$("$prefix/bin/svm-pmu" --version)" \
  "svm-pmu $version (plugin ABI $abi)"
agree "host_stub --version" "$("$prefix/bin/host_stub" --version)" \
  "host_stub $version (plugin ABI $abi)"
agree "vmm-run --version" "$("$prefix/bin/vmm-run" --version)" "vmm-run $version (plugin ABI $abi)"
agree "vmm-plugin.pc" "$(pkg-config --modversion vmm-plugin)" "$abi"
agree "abi_version of vmm-plugin.pc" "$(pkg-config --variable=abi_version vmm-plugin)" "$abi"
agree "pkg-config --libs vmm-plugin" "$(pkg-config --libs vmm-plugin)" ""
agree "the CMake package" "$(sed -nE 's/^set\(PACKAGE_VERSION "(.*)"\)$/\1/p' \
  "$prefix/share/cmake/vmm-plugin-abi/vmm-plugin-abi-config-version.cmake")" "$abi"
agree "CHANGELOG.md" "$(sed -nE 's/^## \[([0-9.]+)\] - .*/\1/p' "$source/CHANGELOG.md" | head -n 1)" \
  "$version"
for page in man1/host_stub.1 man1/svm-pmu.1 man1/vmm-run.1 man3/vmm_host.3 man7/svm_pmu.7; do
  file=$prefix/share/man/$page.gz
  [[ -e $file || $page == man[37]/* ]] || { echo "left out: no $page without help2man"; continue; }
  agree "$page" "$(zcat "$file" | sed -nE '/^\.TH /s/.*"svm_pmu ([0-9.]+)".*/\1/p')" "$version"
done
agree "ABI.md" "$(head -n 1 "$source/abi/ABI.md")" "# The plugin ABI, version $abi"

# ---- what plugins and hosts tell each other
examples=$prefix/share/doc/svm-pmu-dev/examples
read -ra flags < <(pkg-config --cflags vmm-plugin)
cc -std=c99 "${flags[@]}" -rdynamic -o "$work/host" "$examples/minimal_host.c" -ldl
cc -std=c99 "${flags[@]}" -fPIC -fvisibility=hidden -shared -o "$work/host_name.so" \
  "$here/host_name_plugin.c"
plugindir=$(pkg-config --variable=plugindir vmm-plugin)
for name in svm_pmu host_conformance; do
  agree "$name's descriptor" "$("$work/host" "$plugindir/$name.so" | head -n 1)" \
    "$name $version, ABI $abi"
done
said=$("$prefix/bin/host_stub" run --plugin "$work/host_name.so" 2>&1 || true)
agree "host_stub's table" "$(sed -nE 's/.*this host is (.*)/\1/p' <<<"$said")" "host_stub $version"
cat >"$work/create_vm.c" <<'END'
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
int main(void) { return ioctl(open("/dev/kvm", O_RDWR), KVM_CREATE_VM, 0) < 0; }
END
if [[ -w /dev/kvm ]]; then
  cc -o "$work/create_vm" "$work/create_vm.c"
  said=$("$prefix/bin/vmm-run" --plugin "$work/host_name.so" -- "$work/create_vm" 2>&1 || true)
  agree "the preload host's table" \
    "$(sed -nE 's/.*this host is (vmm_preload [0-9.]+).*/\1/p' <<<"$said" | head -n 1)" \
    "vmm_preload $version"
else
  echo "left out: the preload host's table, no /dev/kvm"
fi

for deb; do agree "$deb" "$(dpkg-deb -f "$deb" Version)" "$version-1"; done
((status)) || echo "project $version, ABI $abi"
exit "$status"
