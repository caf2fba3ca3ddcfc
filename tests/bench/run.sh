#!/usr/bin/env bash
# Installs what is missing, builds the release preset, measures, prints one table:
#   bash tests/bench/run.sh              everything, about eight minutes
#   bash tests/bench/run.sh --quick      the counts, and a look at the times
#   bash tests/bench/run.sh --markdown   the table for a README
#   bash tests/bench/run.sh --help       the other options
# The numbers are in build/bench.json, too. Exit status: bench.py.
set -euo pipefail
cd "$(dirname "$0")/../.."
bash tests/install_packages.sh test
exec python3 -B tests/bench/bench.py --build "$@"
