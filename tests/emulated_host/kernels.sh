#!/usr/bin/env bash
# Fetches and unpacks Debian's cloud kernels into FOLDER/kernels/NAME, those that are not there yet:
#   bash tests/emulated_host/kernels.sh FOLDER NAME...
# NAME is 5.10, 6.1, 6.12, 6.18 or newest (that of sid). Exit status 77, with a line "SKIPPED: reason",
# where they cannot be had.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/emulated_host/suite.sh
. "$here/suite.sh"
declare -A suites=([5.10]=bullseye [6.1]=bookworm [6.12]=bookworm-backports
  [6.18]=trixie-backports [newest]=sid)
(($# >= 2)) || { echo "usage: $0 FOLDER NAME..." >&2; exit 2; }
folder=$1
shift
mkdir -p "$folder/kernels"
folder=$(cd "$folder" && pwd)
exec {lock}>"$folder/kernels.lock"
flock "$lock"

for name in "$@"; do
  kernel=$folder/kernels/$name
  [[ ! -e $kernel/vmlinuz ]] || continue
  room_for 300 "$folder"
  apt_suite "$folder" "${suites[$name]}"
  rm -rf "$kernel"
  mkdir -p "$kernel/debs"
  # 7.x has its image and its modules in packages of their own, which the image's package needs
  image=$("${CACHE[@]}" depends linux-image-cloud-amd64 |
    sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
  # backports keep older kernels beside the one that their package means
  [[ $name == newest || $image == "linux-image-$name."* ]] ||
    image=$("${CACHE[@]}" pkgnames "linux-image-$name." | grep 'cloud-amd64$' | sort -V | tail -n 1) ||
      true
  [[ $image ]] || cannot "no cloud kernel $name in Debian ${suites[$name]}"
  mapfile -t parts < <("${CACHE[@]}" depends "$image" |
    sed -n 's/^ *Depends: \(linux-\(binary\|modules\)-[0-9].*\)/\1/p')
  (cd "$kernel/debs" && "${APT[@]}" download "$image" "${parts[@]}" >log 2>&1) ||
    cannot "no kernel of Debian ${suites[$name]}: $(tail -n 1 "$kernel/debs/log")"
  for deb in "$kernel"/debs/*.deb; do dpkg-deb -x "$deb" "$kernel/unpacked"; done
  mkdir "$kernel/modules"
  for module in irqbypass kvm kvm-amd msr; do
    file=$(find "$kernel/unpacked" -name "$module.ko*" | head -n 1)
    case $file in
      *.xz) xz -dc "$file" >"$kernel/modules/$module.ko" ;;
      ?*) cp "$file" "$kernel/modules/$module.ko" ;;
    esac
  done
  cp "$(find "$kernel/unpacked" -name 'vmlinuz*' -type f | head -n 1)" "$kernel/vmlinuz.new"
  rm -rf "$kernel/unpacked" "$kernel/debs"
  mv "$kernel/vmlinuz.new" "$kernel/vmlinuz"
done
