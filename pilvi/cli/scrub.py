"""`pilvi scrub`: read everything that is kept, mend what can be mended, and say what was found. Asks the server, or does it alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pilvi.app.server import read_state
from pilvi.cli.clock import ask
from pilvi.core.errors import Unavailable


def scrub(data_dir: Path, *, as_json: bool) -> int:
    """Exit status 0 when everything is good now, 1 when something stays damaged."""
    if read_state(data_dir) is None:
        raise Unavailable(f"no server runs on {data_dir}; start one with: pilvi up --data-dir {data_dir}")
    told = ask(data_dir, "POST", b"", "/_pilvi/scrub")
    print(json.dumps(told) if as_json else "\n".join(lines(told)))
    return 0 if told["is_whole"] else 1


def lines(told: dict[str, Any]) -> list[str]:
    seen = f"read  {told['blobs']} large and {told['bodies']} small bodies, {told['bytes']:,} bytes, in {told['took_s']} s"
    found = [seen, f"found  {told['damaged']} damaged  {told['mended']} mended  {told['lost']} lost"]
    found += [f"  {name}" for name in told["names"]]
    if told["damaged"] > len(told["names"]):
        found.append(f"  and {told['damaged'] - len(told['names'])} more")
    found += [f"out  {folder}: {reason}" for folder, reason in told["out"].items()]
    return found
