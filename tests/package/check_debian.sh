#!/usr/bin/env bash
# debian/ says the same as CMake, whose packages are for every distribution.
#   check_debian.sh SOURCE BUILD
set -euo pipefail
source=$1 build=$2
command -v dpkg-parsechangelog >/dev/null || { echo "SKIPPED: no dpkg-parsechangelog"; exit 77; }
status=0
agree() { # WHAT SAYS WANTED
  [[ $2 == "$3" ]] && return
  echo "$1 says '$2', not '$3'"
  status=1
}
cpack_says() { sed -nE "s/^set\($1 \"(.*)\"\)$/\1/p" "$build/CPackConfig.cmake"; }
field() { # FILE FIELD [PACKAGE]: of the source, or of a package
  awk -v field="$2:" -v package="${3:-}" 'BEGIN { RS = ""; FS = "\n" }
    package == "" ? NR == 1 : $1 == "Package: " package {
      for (i = 1; i <= NF; ++i) if (index($i, field " ") == 1) print substr($i, length(field) + 2) }' "$1"
}
control=$source/debian/control
generated=$build/package/changelog.Debian
for what in Version Date Maintainer; do
  agree "debian/changelog: $what" "$(dpkg-parsechangelog -l "$source/debian/changelog" -S "$what")" \
    "$(dpkg-parsechangelog -l "$generated" -S "$what")"
done
agree "debian/control: Maintainer" "$(field "$control" Maintainer)" "$(cpack_says CPACK_PACKAGE_CONTACT)"
agree "debian/control: Homepage" "$(field "$control" Homepage)" \
  "$(cpack_says CPACK_PACKAGE_HOMEPAGE_URL)"
vcs=$(sed -nE 's/.*VCS: git:(.*)$/\1/p' "$build/CPackConfig.cmake" | head -n 1)
agree "debian/control: Vcs-Git" "$(field "$control" Vcs-Git)" "$vcs"
agree "debian/control: Vcs-Browser" "$(field "$control" Vcs-Browser)" "$vcs"
for component in RUNTIME LIBRARY DEVEL; do
  name=$(cpack_says "CPACK_DEBIAN_${component}_PACKAGE_NAME")
  agree "debian/control: $name" "$(sed -n "/^Package: $name$/,/^$/p" "$control" |
    sed -n '/^Description: /,$p' | sed 's/^Description: //; s/^ //; /^$/d')" \
    "$(sed -n "/^set(CPACK_DEBIAN_${component}_DESCRIPTION \"/,/\")$/p" "$build/CPackConfig.cmake" |
      sed 's/^set([A-Z_]* "//; s/")$//')"
done
diff <(sed -n '/^Permission/,$p' "$source/LICENSE") \
  <(sed -n '/^ Permission/,$p' "$source/debian/copyright" | sed 's/^ //; s/^\.$//') ||
  { echo "debian/copyright has another licence than LICENSE"; status=1; }
exit $status
