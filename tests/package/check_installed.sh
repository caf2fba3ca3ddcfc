#!/usr/bin/env bash
# Run as root inside a system that other_system.sh made: installs the packages with apt, uses them, and
# purges them without a trace.
#   check_installed.sh NEW [OLD]
# NEW and OLD are folders of .deb files. With OLD, these are installed first and replaced.
set -euo pipefail
new=$1 old=${2:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
die() {
  echo "$*"
  exit 1
}
apt() { apt-get -qq -y --no-install-recommends "$@" >"$work/apt" 2>&1 || { cat "$work/apt"; exit 1; }; }
# every file, but for what lives and what apt and dpkg write
files() { find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp \
  -o -path /root -o -path /opt -o -path /var/cache -o -path '/var/lib/dpkg/*-old' \
  -o -path /var/lib/apt -o -path /var/log -o -path /etc/ld.so.cache \) -prune -o -print | sort; }
version_of() { dpkg-deb -f "$(echo "$1"/svm-pmu_*.deb)" Version; }
is_installed() { # FOLDER: its packages are, in their versions
  local deb name
  for deb in "$1"/*.deb; do
    name=$(dpkg-deb -f "$deb" Package)
    [[ $(dpkg-query -W -f '${Status} ${Version}' "$name") == \
      "install ok installed $(dpkg-deb -f "$deb" Version)" ]] || die "$name is not installed"
  done
  [[ $(vmm-run --version) == "vmm-run $(version_of "$1" | sed 's/-.*//') "* ]] ||
    die "vmm-run --version says $(vmm-run --version)"
}
listed() { dpkg -L svm-pmu svm-pmu-dev | sort -u; }

apt install gcc libc6-dev linux-libc-dev make pkg-config
apt autoremove --purge
files >"$work/before"
if [[ $old ]]; then
  apt install "$old"/*.deb
  is_installed "$old"
  listed >"$work/old"
fi
apt install "$new"/*.deb
is_installed "$new"
if [[ $old ]]; then # what the new packages do not have any more is gone
  while read -r file; do
    [[ ! -e $file ]] || die "$file is left of $(version_of "$old")"
  done < <(comm -23 "$work/old" <(listed))
  echo "replaced $(version_of "$old") by $(version_of "$new")"
fi

# ---- the programs, the plugin by its name
host_stub run --quiet --plugin svm_pmu.so --kvm sim:linux-5.10 --scenario boot,perf,reset,boot \
  >"$work/said" || { cat "$work/said"; exit 1; }
host_stub validate --plugin svm_pmu.so >"$work/said" || { cat "$work/said"; exit 1; }
svm-pmu probe >"$work/said" 2>&1 || true # its status says what the host needs
grep -q 'CPU vendor' "$work/said" || { cat "$work/said"; exit 1; }
if [[ -w /dev/kvm ]]; then
  vmm-run --plugin svm_pmu.so --check -- "$(command -v qemu-system-x86_64 || echo sh)" \
    >"$work/said" 2>&1 || { cat "$work/said"; exit 1; }
else
  echo "left out: vmm-run --check, no /dev/kvm"
fi

# ---- a plugin and hosts, compiled with what is installed
cp -r /usr/share/doc/svm-pmu-dev/examples "$work/examples"
cd "$work/examples"
make -s CFLAGS="-std=c99 -O2 -Wall -Wextra -Werror"
./minimal_host ./minimal_plugin.so clear=0x174 >own
grep -qx 'written to vCPU 1: MSR 0x174 flags 0 value 0x0' own
read -ra flags < <(pkg-config --cflags --libs vmm-host)
cc -std=c99 -o library_host library_host.c "${flags[@]}"
[[ $(ldd ./library_host) == *'libvmm_host.so.1 => /'* ]] || die "libvmm_host.so.1 is not found"
if [[ -w /dev/kvm ]]; then
  ./library_host svm_pmu.so >said 2>&1 || { cat said; exit 1; }
fi
cd /

apt purge --autoremove svm-pmu svm-pmu-dev svm-pmu-dbgsym libvmm-host1
files >"$work/after"
diff "$work/before" "$work/after" || die "the packages leave files behind"
echo "installed $(version_of "$new"), used, purged without a trace"
