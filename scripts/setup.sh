#!/bin/sh
# Make .venv hold the server, its clients and its checks; run by `make setup`, safe to run again.
set -eu
PYTHON=${PYTHON:-python3.11}
VENV=${VENV:-.venv}

echo "setting up $VENV (once; later runs start at once)"
PYTHON="$PYTHON" sh scripts/system.sh
[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
