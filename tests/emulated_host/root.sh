#!/usr/bin/env bash
# Makes the root file system of an emulated host, a cpio archive:
#   bash tests/emulated_host/root.sh OUT BUILD [tests]
# busybox, this system's QEMU with its firmware, and the product as BUILD, its build folder, has it,
# at the paths that they have here. With "tests" also what running its tests takes: all programs of
# the build, the tests' folder, ctest, python3, strace.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
(($# == 2 || $# == 3)) || { sed -n '3s/^# *//p' "$0" >&2; exit 2; }
out=$(realpath -m "$1") build=$(realpath "$2") tests=${3:-}
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{bin,sbin,proc,sys,dev,lib,lib64,tmp,etc,root,modules,guests,usr/bin,usr/sbin}

# program FILE...: copies them with the libraries that they are linked with
program() {
  local file library
  for file in "$@"; do
    mkdir -p "$root$(dirname "$file")"
    cp -L "$file" "$root$file"
    libraries "$file"
  done
}
libraries() {
  local library
  for library in $(ldd "$@" 2>/dev/null | grep -oE '/[^ ]+' | grep -v ':$' | sort -u); do
    [[ ! -e $root$library ]] || continue
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
  done
}

cp /usr/bin/busybox "$root/bin/"
for name in $(busybox --list); do
  [[ $name == busybox ]] || ln -s busybox "$root/bin/$name"
done
# what vmm-run starts must not be static
program /bin/bash /usr/bin/env /usr/bin/qemu-system-x86_64
ln -sf bash "$root/bin/sh"
mkdir -p "$root/usr/share/qemu"
for file in kvmvapic.bin linuxboot_dma.bin pvh.bin bios-256k.bin bios.bin vgabios-stdvga.bin \
  efi-e1000e.rom efi-e1000.rom qboot.rom bios-microvm.bin multiboot_dma.bin; do
  for folder in /usr/share/qemu /usr/share/seabios /usr/lib/ipxe/qemu; do
    [[ ! -e $folder/$file ]] || { cp -L "$folder/$file" "$root/usr/share/qemu/"; break; }
  done
done

mkdir -p "$root$build" "$root$source"
if [[ $tests ]]; then
  program /usr/bin/qemu-img /usr/bin/strace /usr/bin/ctest "$(readlink -f /usr/bin/python3)"
  ln -sf "$(basename "$(readlink -f /usr/bin/python3)")" "$root/usr/bin/python3"
  for folder in /usr/lib/python3.[0-9]*; do
    mkdir -p "$root$folder"
    tar cf - -C "$folder" --exclude=test --exclude=__pycache__ --exclude=idlelib --exclude=lib2to3 \
      --exclude=ensurepip --exclude=pydoc_data --exclude='config-*' --exclude=tkinter . |
      tar xf - -C "$root$folder"
  done
  # the one that the build found may be another
  python=$(sed -n 's/^_Python3_EXECUTABLE:INTERNAL=//p' "$build/CMakeCache.txt")
  if [[ $python && ! -e $root$python ]]; then
    mkdir -p "$root$(dirname "$python")"
    ln -s /usr/bin/python3 "$root$python"
  fi
  for folder in /usr/share/cmake-*; do # ctest only looks whether it is there
    mkdir -p "$root$folder/Modules"
    cp "$folder/Modules/CMake.cmake" "$root$folder/Modules/"
  done
  if command -v libvirtd >/dev/null; then
    # libvirt asks QEMU what it can emulate, too
    for file in /usr/sbin/libvirtd /usr/bin/virsh \
      /usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so \
      /usr/lib/x86_64-linux-gnu/qemu/accel-tcg-*.so; do
      [[ ! -e $file ]] || program "$file"
    done
    mkdir -p "$root/usr/share/libvirt"
    cp -r /usr/share/libvirt/{cpu_map,schemas} "$root/usr/share/libvirt/"
  fi
  if [[ -x /sbin/apparmor_parser ]]; then # for tests/libvirt/apparmor.sh
    program /sbin/apparmor_parser /usr/bin/aa-exec
    cp -r /etc/apparmor.d /etc/apparmor "$root/etc/"
    mkdir -p "$root/usr/share"
    cp -r /usr/share/apparmor-features "$root/usr/share/"
  fi
  (cd "$source" && tar cf - --exclude=__pycache__ tests integrations README.md abi \
    host_preload/{README.md,libvirt}) |
    tar xf - -C "$root$source"
  (cd "$build" && find . \( -name CMakeFiles -o -name packages -o -name package -o -name pages \
    -o -name fuzz -o -name backports_qemu -o -name Testing \) -prune -o -type f \
    \( -perm -u+x -o -name '*.so' -o -name guest.elf -o -name '*_cases.cmake' \
    -o -name '*_include.cmake' -o -name CTestTestfile.cmake \) -print0 | tar cf - --null -T -) |
    tar xf - -C "$root$build"
else
  for file in host_stub/host_stub plugin/svm_pmu.so host_preload/{vmm-run,libvmm_preload.so} \
    tests/emulated_host/broken_{reset,capability}.so; do
    [[ -e $build/$file ]] || continue # the demo builds no tests
    mkdir -p "$root$build/$(dirname "$file")"
    cp "$build/$file" "$root$build/$file"
  done
fi
find "$root$build" -type f ! -name guest.elf -size +200k -exec strip -g {} + 2>/dev/null || true
mapfile -t files < <(find "$root$build" -type f -perm -u+x ! -name '*.elf')
libraries "${files[@]}"
[[ ! -L $root$build ]] || exit 1
ln -s "$build" "$root/build"
ln -s "$source" "$root/source"
[[ -e $root/lib64/ld-linux-x86-64.so.2 ]] || cp -L /lib64/ld-linux-x86-64.so.2 "$root/lib64/"

echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
echo 'root:x:0:' >"$root/etc/group"
: >"$root/etc/emulated_host" # for a test that wants to know where it is
cp "$here"/host/* "$root/"
chmod +x "$root/init"
(cd "$root" && find . | cpio -o -H newc --quiet) >"$out"
