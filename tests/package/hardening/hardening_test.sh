#!/bin/sh
# SPDX-License-Identifier: MIT
# hardening_test.sh CASE
# Builds a small program with all hardening but one part, and expects check_hardening.sh, or for
# flags without a trace check_flags.sh, to miss just that. Exit status: 0 as expected, 1 not, 77 no
# compiler.
set -eu
here=$(dirname "$0")
command -v g++ >/dev/null || { echo 'SKIPPED: no g++ here'; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

without='' with='' complaint=''
case $1 in
nothing) ;;
bind_now) without='-Wl,-z,now' with='-Wl,-z,lazy' complaint='not bound at load time' ;;
relro) without='-Wl,-z,relro' with='-Wl,-z,norelro' complaint='no GNU_RELRO segment' ;;
executable_stack) with='-Wl,-z,execstack' complaint='the stack is executable' ;;
writable_code) with=-DWRITABLE_CODE complaint='a segment is writable and executable' ;;
pie) without='-fPIE -pie' with='-fno-pie -no-pie' complaint='not position independent (PIE)' ;;
stack_protector)
  without=-fstack-protector-strong with=-fno-stack-protector
  complaint='a source was compiled without -fstack-protector-strong' ;;
cf_protection)
  without=-fcf-protection with=-fcf-protection=none
  complaint='a source was compiled without -fcf-protection=full' ;;
fortify)
  without='-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2' with=-U_FORTIFY_SOURCE
  complaint='does not import __snprintf_chk' ;;
assertions) without=-D_GLIBCXX_ASSERTIONS complaint='does not import _ZSt21__glibcxx_assert_fail' ;;
*)
  echo "no case $1" >&2
  exit 2 ;;
esac
flags=' -O2 -g -fPIE -pie -fstack-protector-strong -fcf-protection -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -D_GLIBCXX_ASSERTIONS -Wl,-z,relro -Wl,-z,now '
if [ -n "$without" ]; then
  case $flags in *" $without "*) ;; *) echo "no flags '$without'" && exit 1 ;; esac
  flags="${flags%%" $without "*} $with ${flags#*" $without "}"
else
  flags="$flags $with"
fi
cat >"$dir/small.cpp" <<'SOURCE'
#include <cstdio>
#include <vector>
#ifdef WRITABLE_CODE
__attribute__((section(".patched,\"awx\",@progbits#"))) int patched() { return 1; }
#endif
int main(int argc, char** argv) {
  char text[16];
  std::vector<int> numbers(3);
  std::snprintf(text, static_cast<std::size_t>(argc), "%s", argv[0]);
  return numbers[static_cast<std::size_t>(argc)] + text[0];
}
SOURCE
# shellcheck disable=SC2086 # several flags
g++ $flags "$dir/small.cpp" -o "$dir/small"
cat >"$dir/compile_commands.json" <<JSON
[
{
  "command": "g++ $flags -c $dir/small.cpp",
  "file": "$dir/small.cpp"
}
]
JSON
status=0
said=$("$here/check_hardening.sh" program "$dir/small" __stack_chk_fail __snprintf_chk \
  _ZSt21__glibcxx_assert_failPKciS0_S0_) || status=1
flags_status=0
flags_said=$("$here/check_flags.sh" "$dir/compile_commands.json" "$dir") || flags_status=1
printf '%s\n%s\n' "$said" "$flags_said"
if [ -z "$complaint" ]; then
  [ "$status$flags_status" = 00 ]
  exit
fi
case $said in *"$complaint"*) ;; *) echo "expected: $complaint" && exit 1 ;; esac
[ $status = 1 ] || exit 1
case $1 in
fortify | assertions) [ $flags_status = 1 ] ;;
*) [ $flags_status = 0 ] ;;
esac
