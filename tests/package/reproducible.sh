#!/usr/bin/env bash
# Whether the same commit gives the same packages, byte for byte. Run by hand:
#   bash tests/package/reproducible.sh [FOLDER]
# makes the .deb and the .rpm of HEAD twice, without a compiler cache, in two folders that differ in
# path, umask, time zone and language; as root, also in host name, and where /dev/shm is, in the file
# system. Compares them, and prints size and SHA-256 of each package and of the programs and
# libraries in them. The packages are left in FOLDER. Takes some minutes; exit status 77, with a line
# "SKIPPED: reason", where it cannot be done.
set -euo pipefail
cd "$(dirname "$0")/../.."

skip() {
  echo "SKIPPED: $1"
  exit 77
}
for tool in git cmake help2man dpkg-deb rpmbuild; do
  command -v $tool >/dev/null || skip "no $tool"
done
commit=$(git rev-parse --short=12 HEAD 2>/dev/null) || skip "not a git repository"
[[ -z $(git status --porcelain) ]] || echo "note: what is not committed is left out"
work=$(mktemp -d)
elsewhere=$work
[[ ! -w /dev/shm ]] || elsewhere=$(mktemp -d -p /dev/shm)
trap 'rm -rf "$work" "$elsewhere"' EXIT
kept=${1:-}
export CCACHE_DISABLE=1
unset CMAKE_C_COMPILER_LAUNCHER CMAKE_CXX_COMPILER_LAUNCHER SOURCE_DATE_EPOCH

other_host=()
if ((EUID == 0)) && unshare --uts true 2>/dev/null; then
  # shellcheck disable=SC2016 # for the shell in there
  other_host=(unshare --uts bash -c 'hostname another-machine.invalid && exec "$@"' bash) # sh drops functions
else
  echo "left out: another host name, not root"
fi

make_packages() { # FOLDER: both kinds, from what lies there, by the presets; the .rpm reuse objects
  local preset
  cd "$1"
  for preset in package package-rpm; do
    cmake --preset $preset -B build/package
    cmake --build build/package
    cpack --config build/package/CPackConfig.cmake -B "$1/packages"
  done
}
export -f make_packages
first=$work/first second=$elsewhere/a/folder/with/a/longer/path
for folder in "$first" "$second"; do
  mkdir -p "$folder"
  # shellcheck disable=SC2016 # for the shell in there
  command=(bash -ec 'umask "$1" && tar -x --no-same-permissions -C "$2" && make_packages "$2"' -)
  if [[ $folder == "$first" ]]; then
    command=(env TZ=UTC0 LC_ALL=C "${command[@]}" 022)
  else
    command=(env TZ=Asia/Kolkata LC_ALL=C.UTF-8 "${other_host[@]}" "${command[@]}" 077)
  fi
  git archive HEAD | nice "${command[@]}" "$folder" >"$work/log" 2>&1 ||
    { tail -n 30 "$work/log"; exit 1; }
done

status=0
mapfile -t packages < <(cd "$first/packages" && find . -maxdepth 1 -name '*.[dr][ep][bm]' | sort)
((${#packages[@]} == 8)) || { echo "not 8 packages: ${packages[*]}"; status=1; }
for package in "${packages[@]}"; do
  cmp "$first/packages/$package" "$second/packages/$package" || status=1
done
if ((status)); then # what differs is left to look at
  trap - EXIT
  echo "left in $first and $second"
  exit 1
fi
echo "commit $commit: ${#packages[@]} packages, made twice, are the same"
echo
printf '%9s  %-64s  %s\n' bytes SHA-256 package
say() { # FILE NAME
  printf '%9d  %s  %s\n' "$(stat -c %s "$1")" "$(sha256sum "$1" | cut -d' ' -f1)" "$2"
}
for package in "${packages[@]}"; do say "$first/packages/$package" "${package##*/}"; done
for package in "$first"/packages/*.deb; do dpkg-deb -x "$package" "$work/root"; done
find "$work/root/usr/bin" "$work"/root/usr/lib -not -path '*/debug/*' -type f \
  \( -path '*/bin/*' -o -name '*.so*' -o -name '*.a' \) | sort | while read -r file; do
  say "$file" "${file#"$work/root"}"
done
if [[ $kept ]]; then
  mkdir -p "$kept"
  cp "$first"/packages/*.{deb,rpm} "$kept"
fi
