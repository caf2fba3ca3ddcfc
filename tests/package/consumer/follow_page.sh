#!/usr/bin/env bash
# Does what a guide says, as a reader would: writes the files that it shows, runs its commands, and
# compares what it shows of their output.
#   follow_page.sh PAGE.md FOLDER
# The folder is made anew. Fences of the page: "c", "cmake" and the like are files, named by the
# comment in their first line; "sh" are commands for `bash -e`; "text" are the first lines of what the
# commands before it print. "sh kvm" needs /dev/kvm and QEMU, "sh root" is run like the others: the
# tests' prefix is their own.
set -euo pipefail
page=$(realpath "$1") folder=$2
rm -rf "$folder"
mkdir -p "$folder/.fences"
cd "$folder"

# fences as NNN.WORDS, in their order
awk '/^```/ { if (inside) { inside = 0; close(file) }
              else { inside = 1; words = substr($0, 4); gsub(/ /, "_", words)
                     file = sprintf(".fences/%03d.%s", ++n, words); printf "" >file }
              next }
     inside { print >file }' "$page"

can_kvm() { [[ -w /dev/kvm ]] && command -v qemu-system-x86_64 >/dev/null; }

run() { # FENCE
  bash -euo pipefail "$1" >output.txt 2>&1 && return
  echo "these commands of $page fail:"
  cat "$1"
  echo "they print:"
  cat output.txt
  exit 1
}

count=0
for fence in .fences/*; do
  case $fence in
    *.sh_kvm)
      if can_kvm; then run "$fence"; else echo "SKIPPED: vmm-run with QEMU: no /dev/kvm or no QEMU"; fi
      ;;
    *.sh | *.sh_root)
      run "$fence"
      ;;
    *.text)
      head -n "$(wc -l <"$fence")" output.txt | diff -u "$fence" - ||
        { echo "the output is not what $page shows"; exit 1; }
      ;;
    *)
      name=$(sed -nE '1s@^(/\*|#|//) ([A-Za-z0-9_.]+)( \*/)?$@\2@p' "$fence")
      [[ $name ]] || { echo "$page shows a file whose first line does not name it: $fence"; exit 1; }
      cp "$fence" "$name"
      ;;
  esac
  count=$((count + 1))
done
((count > 10)) || { echo "$page has only $count fences: not all were found"; exit 1; }
echo "$count fences of $page followed"
