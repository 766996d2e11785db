#!/bin/sh
# Make an environment that some tests in tests/heavy need beside .venv: sh scripts/heavy_env.sh ray
# The server runs in it from this folder, with the engine's own library. Safe to run again.
set -eu
PYTHON=${PYTHON:-python3.11}
for name in "$@"; do
	case "$name" in
	ray) packages="ray==2.60.0" ;;
	kubernetes) packages="kubernetes==37.0.2 kmock==0.8" ;;
	*)
		echo "there is no environment $name: ray, kubernetes" >&2
		exit 2
		;;
	esac
	venv=".venv-$name"
	[ -x "$venv/bin/python" ] || "$PYTHON" -m venv "$venv"
	"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/base.txt
	# shellcheck disable=SC2086
	"$venv/bin/python" -m pip install --quiet --disable-pip-version-check boto3 pytest hypothesis $packages
	echo "$venv is ready"
done
