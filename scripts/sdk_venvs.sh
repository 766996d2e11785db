#!/bin/sh
# Both majors of the SageMaker Python SDK, each in an environment of its own: .venv-sdk2 and .venv-sdk3. Safe to run again.
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3.11}
for major in 2 3; do
    target=.venv-sdk$major pins=requirements/sdk$major.txt
    if [ -e "$target/.ready" ] && [ -z "$(find "$pins" -newer "$target/.ready")" ]; then
        continue
    fi
    echo "setting up $target (once; some minutes)"
    [ -x "$target/bin/python" ] || "$PYTHON" -m venv "$target"
    echo '*' > "$target/.gitignore"
    "$target/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$pins"
    touch "$target/.ready"
done
