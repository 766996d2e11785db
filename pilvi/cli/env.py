"""`pilvi env`: what a shell needs so that unmodified clients find the cloud. Waits while a server is still starting."""

from __future__ import annotations

import json
import shlex
import time
import urllib.error
import urllib.request
from pathlib import Path

from pilvi.app.clients import CERTIFICATE, Clients
from pilvi.app.keys import root_key
from pilvi.app.server import read_state
from pilvi.core.errors import Unavailable

WAIT_S = 10.0


def exports(data_dir: Path, *, proxy: bool = False) -> list[str]:
    """`export NAME=value` lines. Unavailable when no server runs on the directory.

    proxy: clients keep AWS's own host names and come here by HTTPS_PROXY; else they get the endpoint.
    """
    state = wait_ready(data_dir)
    account, key_id, secret = root_key(data_dir)
    clients = Clients(data_dir, str(state["endpoint"]))
    values = clients.shell(account, str(state["region"]), proxy=proxy)
    values |= {"AWS_ACCESS_KEY_ID": key_id, "AWS_SECRET_ACCESS_KEY": secret}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in values.items()]
    if proxy:
        return [*lines, "unset AWS_SESSION_TOKEN AWS_PROFILE AWS_ENDPOINT_URL"]
    hint = f"# The SageMaker SDK asks STS at an address of its own: use --proxy, or once: cp {shlex.quote(str(clients.models()))} ~/.aws/models/"
    return [*lines, "unset AWS_SESSION_TOKEN AWS_PROFILE", hint]


def wait_ready(data_dir: Path) -> dict[str, object]:
    """What the server on this directory says of itself, once it answers."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        state = read_state(data_dir)
        if state is not None and (data_dir / CERTIFICATE).exists() and is_healthy(str(state["endpoint"])):
            return state
        time.sleep(0.05)
    raise Unavailable(f"no server runs on {data_dir}; start one with: pilvi up --data-dir {data_dir}")


def is_healthy(endpoint: str) -> bool:
    return health(endpoint) is not None


def health(endpoint: str) -> dict[str, object] | None:
    """What a server that is ready says of itself; None from one that is not."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{endpoint}/_pilvi/health", timeout=2) as answer:
            told: dict[str, object] = json.load(answer)
            return told
    except (urllib.error.URLError, OSError, ValueError):
        return None
