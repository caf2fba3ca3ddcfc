# must be found: SC2086
# shellcheck shell=bash
rm -f $1
