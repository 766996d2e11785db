#!/bin/sh
# `make bench`: set up the peers in a venv of their own, then measure. Arguments go to bench.py (--quick, --only, --json),
# and leave out the rest: queues, functions and events, how jobs start, tuning and XGBoost beside the same by hand.
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3.11}
PEERS=.venv-bench

if [ ! -e "$PEERS/.ready" ] || [ requirements/bench.txt -nt "$PEERS/.ready" ]; then
    echo "setting up the peers in $PEERS (once)"
    "$PYTHON" -m venv "$PEERS"
    echo '*' > "$PEERS/.gitignore"
    "$PEERS/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
    touch "$PEERS/.ready"
fi
for tool in wrk nginx; do
    if ! command -v "$tool" >/dev/null 2>&1; then
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 && apt-get install -y -qq --no-install-recommends "$tool" >/dev/null 2>&1; then
            echo "installed $tool from the distribution"
        else
            echo "$tool is not installed and cannot be from here: going on without it"
        fi
    fi
done
if command -v cc >/dev/null 2>&1; then
    sh scripts/wheel.sh
    PILVI_PROGRAM=.venv-wheel/bin/pilvi
else
    echo "there is no C compiler: measuring the sources as Python, not the wheel with its compiled hot path"
    PILVI_PROGRAM=.venv/bin/pilvi
fi
export PILVI_PROGRAM
.venv/bin/python benchmarks/bench.py "$@"
if [ $# -gt 0 ]; then
    exit 0
fi
patience=""
if command -v timeout >/dev/null 2>&1; then
    patience="timeout 900"
fi
PILVI_RUNTIMES_DIR=${PILVI_RUNTIMES_DIR:-$PWD/.venv/pilvi-runtimes}
export PILVI_RUNTIMES_DIR
for part in sqs functions events training tuning builtin_xgboost; do
    echo
    $patience .venv/bin/python "benchmarks/$part.py" || echo "benchmarks/$part.py did not finish"
done
