#!/bin/sh
# System packages that make isolation strong, let the training toolkit compile, and are clients in journeys. Installs what is missing when it may,
# says what it would want when it may not; of these the server itself needs only Python's venv module.
set -eu
wanted=""
command -v bwrap >/dev/null 2>&1 || wanted="$wanted bubblewrap"
command -v cc >/dev/null 2>&1 || wanted="$wanted gcc libc6-dev"
for client in curl rclone s3cmd; do
    command -v "$client" >/dev/null 2>&1 || wanted="$wanted $client"
done
python=${PYTHON:-python3.11}
"$python" -c 'import ensurepip' >/dev/null 2>&1 || wanted="$wanted python3.11-venv"
include=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
[ -e "$include/Python.h" ] || wanted="$wanted python3.11-dev"
[ -n "$wanted" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing$wanted"
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086
    { apt-get install -y -qq $wanted >/dev/null 2>&1 || { apt-get update -qq && apt-get install -y -qq $wanted >/dev/null; }; } ||
        echo "could not install$wanted; going on without"
else
    echo "for full isolation and every runtime, install:$wanted (for example: sudo apt-get install$wanted)"
fi
