#!/bin/sh
# Build the wheel with the hot path compiled, and install it into .venv-wheel: what `pip install` gives, for measuring and testing.
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3.11}
TARGET=.venv-wheel

if [ -e "$TARGET/.ready" ] && [ -z "$(find pilvi setup.py pyproject.toml requirements/base.txt -newer "$TARGET/.ready" -name '*.[pt]*' -print -quit)" ]; then
    exit 0
fi
echo "building the wheel, its hot path compiled (two minutes or so)"
[ -x "$TARGET/bin/python" ] || "$PYTHON" -m venv "$TARGET"
echo '*' > "$TARGET/.gitignore"
rm -rf build dist
PILVI_COMPILE=1 .venv/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .
"$TARGET/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/base.txt
"$TARGET/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall dist/pilvi-*.whl
rm -rf build
touch "$TARGET/.ready"
