"""`pilvi status`: does the cloud run, and where."""

from __future__ import annotations

import json
from pathlib import Path

from pilvi.app.server import read_state
from pilvi.cli.env import is_healthy


def report(data_dir: Path, *, as_json: bool) -> int:
    """Exit status 0 when it is ready, 1 when it is not."""
    state = read_state(data_dir)
    healthy = state is not None and is_healthy(str(state["endpoint"]))
    word = "ready" if healthy else "stopped" if state is None else "not answering"
    if as_json:
        print(json.dumps({"status": word, "data_dir": str(data_dir), **(state or {})}))
    elif state is None:
        print(f"stopped  data {data_dir}")
    else:
        print(f"{word}  endpoint {state['endpoint']}  pid {state['pid']}  auth {state['auth']}  data {data_dir}")
    return 0 if healthy else 1
