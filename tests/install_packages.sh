#!/usr/bin/env bash
# Installs the Debian packages that are missing, and nothing when none is.
#   bash tests/install_packages.sh build          what building and the demo need
#   bash tests/install_packages.sh package        that, and what making packages needs
#   bash tests/install_packages.sh emulated_host  what building and tests/emulated_host need
#   bash tests/install_packages.sh test           all of that, and what the tests need
# Needs root (or sudo) only if something is missing. Does not ask questions.
set -euo pipefail

build_packages=(
  g++ cmake ninja-build
  libboost-program-options-dev libboost-test-dev libexpected-dev libfmt-dev nlohmann-json3-dev
  libbenchmark-dev linux-libc-dev
)
package_packages=(help2man dpkg-dev file rpm)
emulated_host_packages=(
  qemu-system-x86 seabios ipxe-qemu busybox-static cpio xz-utils patch python3 strace qemu-utils
  dpkg-dev debian-archive-keyring gcc libc6-dev meson ninja-build pkg-config
  libglib2.0-dev libpixman-1-dev libfdt-dev zlib1g-dev
)
test_packages=(
  git clang clang-format-14 clang-tidy-14 cppcheck shellcheck
  gcc-multilib binutils python3 qemu-system-x86 qemu-utils valgrind
  libvirt-daemon-system libvirt-clients
  abigail-tools strace
  mandoc man-db groff-base make pkg-config
)

case "${1:-}" in
  build) wanted=("${build_packages[@]}") ;;
  package) wanted=("${build_packages[@]}" "${package_packages[@]}") ;;
  emulated_host) wanted=("${build_packages[@]}" "${emulated_host_packages[@]}") ;;
  test) wanted=("${build_packages[@]}" "${emulated_host_packages[@]}" "${package_packages[@]}"
    "${test_packages[@]}") ;;
  *)
    echo "usage: $0 build|package|emulated_host|test" >&2
    exit 2
    ;;
esac

missing=()
for package in "${wanted[@]}"; do
  status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
  [[ $status == "install ok installed" ]] || missing+=("$package")
done
((${#missing[@]} == 0)) && exit 0

as_root=()
if ((EUID != 0)); then
  if ! command -v sudo >/dev/null; then
    echo "missing packages: ${missing[*]}" >&2
    echo "install them as root: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
echo "installing: ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! {
  "${as_root[@]}" apt-get update -qq &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install -y -qq --no-install-recommends "${missing[@]}"
} >"$log" 2>&1; then
  cat "$log" >&2
  echo "packages could not be installed: ${missing[*]}" >&2
  exit 1
fi
