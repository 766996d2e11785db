"""`pilvi status`: does the cloud run, where, and what do its jobs wait for."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pilvi.app.server import read_state
from pilvi.cli.clock import line
from pilvi.cli.env import health
from pilvi.cli.events import said


def report(data_dir: Path, *, as_json: bool) -> int:
    """Exit status 0 when it is ready, 1 when it is not."""
    state = read_state(data_dir)
    told = health(str(state["endpoint"])) if state is not None else None
    word = "ready" if told is not None else "stopped" if state is None else "not answering"
    jobs = told.get("jobs") if told is not None else None
    clock = told.get("clock") if told is not None else None
    events = told.get("events") if told is not None else None
    copies: dict[str, Any] = {name: told[name] for name in ("mirrors", "scrub") if name in told} if told is not None else {}
    if as_json:
        print(
            json.dumps(
                {
                    "status": word,
                    "data_dir": str(data_dir),
                    **(state or {}),
                    **({"jobs": jobs} if jobs else {}),
                    **({"clock": clock} if clock else {}),
                    **({"events": events} if events else {}),
                    **copies,
                }
            )
        )
    elif state is None:
        print(f"stopped  data {data_dir}")
    else:
        print(f"{word}  endpoint {state['endpoint']}  pid {state['pid']}  auth {state['auth']}  data {data_dir}")
        if isinstance(clock, dict):
            print(f"clock  {line(clock)}")
        if isinstance(events, dict) and (events["dead"] or events["log"] != "embedded"):
            print(f"events  {said(events)}  {events['dead']} dead letters (pilvi events list)")
        for folder, word in zip(str(state.get("mirrors", "")).split(os.pathsep), copies.get("mirrors", ()), strict=False):
            print(f"mirror  {folder}  {word}")
        if scrub := copies.get("scrub"):
            print(f"scrub  {scrub['time']}  {scrub['damaged']} damaged  {scrub['mended']} mended  {scrub['lost']} lost")
        if isinstance(jobs, dict):
            print(f"jobs  {jobs['running']} running  {jobs['waiting']} waiting")
            if reason := jobs.get("reason"):
                print(f"first in the queue  {reason}")
    return 0 if told is not None else 1
