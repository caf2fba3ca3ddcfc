#!/usr/bin/env bash
# Fetches QEMU of bookworm-backports, to run beside the system's own QEMU:
#   bash tests/e2e/fetch_backports_qemu.sh DIR
# extracts it, its firmware and the libraries that the system lacks into DIR/root. Nothing is
# installed, and neither the system's apt sources nor its package lists change; the mirror and its
# key are those of the system's sources. Does not need root. Does nothing if DIR/root is there.
# Exit status 77, with a line "SKIPPED: reason", where it cannot be had.
set -euo pipefail

suite=bookworm-backports
packages=(qemu-system-x86 qemu-system-common qemu-system-data seabios)

(($# == 1)) || {
  echo "usage: $0 DIR" >&2
  exit 2
}
mkdir -p "$1"
dir=$(cd "$1" && pwd)

skip() { # REASON
  echo "SKIPPED: $1"
  exit 77
}

show_version() { # ROOT
  LD_LIBRARY_PATH=$1/usr/lib/x86_64-linux-gnu:$1/lib/x86_64-linux-gnu \
    "$1/usr/bin/qemu-system-x86_64" --version | head -n 1
}

if [[ -d $dir/root ]]; then
  show_version "$dir/root"
  exit 0
fi

codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release 2>/dev/null) || true
[[ $codename == bookworm && $(uname -m) == x86_64 ]] ||
  skip "QEMU of $suite is for Debian 12 on x86_64"
command -v apt-get dpkg-deb >/dev/null || skip "no apt-get or no dpkg-deb"

# ---- sources: each of the system's that has main of the suite bookworm, with its options, and with
# our suites instead
apt=$dir/apt
rm -rf "$apt" "$dir/root.new"
mkdir -p "$apt"/{sources,state/lists/partial,cache/archives/partial}

shopt -s nullglob
deb822=(/etc/apt/sources.list.d/*.sources)
one_line=(/etc/apt/sources.list.d/*.list)
[[ -e /etc/apt/sources.list ]] && one_line+=(/etc/apt/sources.list)

if ((${#deb822[@]})); then
  # stanzas: paragraphs of "Field: value", whose further lines begin with a blank
  awk -v suite="$suite" '
    function finish() {
      if (binary && enabled && bookworm && main)
        printf "%sSuites: bookworm %s\nComponents: main\n\n", kept, suite
      kept = ""; binary = bookworm = main = 0; enabled = 1; field = ""
    }
    BEGIN { finish() }
    FNR == 1 || /^[ \t]*$/ { finish() }
    /^[ \t]*$/ || /^#/ { next }
    /^[^ \t]/ {
      field = tolower($0); sub(/:.*/, "", field)
      value = $0; sub(/^[^:]*:/, "", value)
    }
    /^[ \t]/ { value = $0 }
    field == "types" { if (value ~ /(^|[ \t])deb([ \t]|$)/) binary = 1 }
    field == "enabled" && tolower(value) ~ /no|false|off|0/ { enabled = 0 }
    field == "suites" { if (value ~ /(^|[ \t])bookworm([ \t]|$)/) bookworm = 1 }
    field == "components" { if (value ~ /(^|[ \t])main([ \t]|$)/) main = 1 }
    field == "types" && /^[^ \t]/ { kept = kept "Types: deb\n" }
    field !~ /^(types|suites|components|enabled)$/ { kept = kept $0 "\n" }
    END { finish() }' "${deb822[@]}" >"$apt/sources/fetch.sources"
fi
if ((${#one_line[@]})); then
  sed -nE "s/^[ \t]*deb[ \t]+((\[[^]]*\][ \t]+)?[^ \t]+)[ \t]+bookworm[ \t]+(.*[ \t])?main([ \t].*)?$/\
deb \1 bookworm main\ndeb \1 $suite main/p" "${one_line[@]}" |
    awk '!seen[$0]++' >"$apt/sources/fetch.list"
fi
grep -qsE '^(Types|deb)' "$apt"/sources/* ||
  skip "no apt source of the system has the suite bookworm"

# ---- apt as the system has it set up, but for where it reads and writes
cat >"$apt/apt.conf" <<END
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$apt/sources";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State::lists "$apt/state/lists";
Dir::State::extended_states "$apt/state/extended_states";
Dir::Cache "$apt/cache";
Dir::Cache::archives "$apt/cache/archives";
Dir::Log "$apt";
Dir::Bin::dpkg "/bin/false";
Debug::NoLocking "true";
Acquire::http::Timeout "10";
Acquire::https::Timeout "10";
Acquire::Retries "1";
APT::Sandbox::User "";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
END

run_apt() { # ARGUMENTS...
  DEBIAN_FRONTEND=noninteractive timeout 60 \
    apt-get --config-file "$apt/apt.conf" -qq "$@" >"$apt/log" 2>&1
}

reason() {
  grep -m 1 '^[EW]:' "$apt/log" || echo "apt-get ended without a reason, or took too long"
}

# A third party's source may have no such suite: what counts is that one has.
run_apt update || true
lists=("$apt"/state/lists/*_"$suite"_*_Packages*)
((${#lists[@]})) || skip "$suite cannot be reached: $(reason)"

# What is installed from QEMU and not wanted would be upgraded too: "NAME-" leaves it out.
mapfile -t others < <(
  dpkg-query -W -f '${Package} ${db:Status-Status}\n' 'qemu*' 2>/dev/null |
    awk -v wanted=" ${packages[*]} " \
      '$2 == "installed" && !index(wanted, " " $1 " ") { print $1 "-" }'
)
run_apt --target-release "$suite" install --download-only --yes --no-install-recommends \
  --reinstall "${packages[@]}" "${others[@]}" ||
  skip "QEMU of $suite cannot be downloaded: $(reason)"

# ---- extracted, seen to run, and only then given its name
mkdir "$dir/root.new"
for file in "$apt"/cache/archives/*.deb; do
  dpkg-deb --extract "$file" "$dir/root.new"
done
show_version "$dir/root.new"
mv "$dir/root.new" "$dir/root"
rm -rf "$apt"
