# shellcheck shell=bash
# Sourced. Packages of any Debian suite, from the archive that this system's apt sources name.

# apt_suite FOLDER SUITE: sets the array APT, an apt-get that knows that suite alone, and CACHE, its
# apt-cache. Their state is in FOLDER/apt-SUITE; the lists are fetched the first time.
apt_suite() {
  local state=$1/apt-$2 suite=$2 archive options
  local key=/usr/share/keyrings/debian-archive-keyring.gpg
  archive=$(cat /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null |
    grep -v '^ *#' | grep -oE 'https?://[^ ]+/debian/?( |$)' | head -n 1) || true
  archive=${archive%% *}
  if [[ ! $archive ]]; then
    cannot "the apt sources of this machine name no Debian archive"
  fi
  options=(-o "Dir::Etc::sourcelist=$state/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::Etc::preferencesparts=/dev/null -o "Dir::State=$state/state"
    -o "Dir::State::status=$state/status" -o "Dir::Cache=$state/cache"
    -o APT::Sandbox::User=root -o Debug::NoLocking=1 -o Acquire::Check-Valid-Until=false
    -o Acquire::Languages=none -o Acquire::http::Timeout=30 -o Acquire::Retries=2)
  # shellcheck disable=SC2034 # for the one who called
  APT=(apt-get -q "${options[@]}") CACHE=(apt-cache "${options[@]}")
  [[ ! -e $state/done ]] || return 0
  mkdir -p "$state"/{state/lists/partial,cache/archives/partial}
  : >"$state/status"
  printf '%s [signed-by=%s] %s %s main\n' deb "$key" "$archive" "$suite" \
    deb-src "$key" "$archive" "$suite" >"$state/sources.list"
  # apt-get update fails softly: only an error mode of its own makes it say so
  "${APT[@]}" -o APT::Update::Error-Mode=any update >"$state/log" 2>&1 ||
    cannot "no package lists of Debian $suite: $(grep -E '^[EW]:' "$state/log" | head -n 1)"
  touch "$state/done"
}

# cannot REASON: ends with what a test says that cannot be done here
cannot() {
  echo "SKIPPED: $1"
  exit 77
}

# room_for MIB FOLDER: ends if there is less room on the disk
room_for() {
  local free
  free=$(df --output=avail -m "$2" | tail -n 1)
  ((free >= $1)) || cannot "$2 has $((free)) MiB free, $1 MiB are needed"
}
