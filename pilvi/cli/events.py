"""`pilvi events`: what waits to be delivered, and the dead letters: listed, shown, delivered after all, deleted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pilvi.cli.clock import ask
from pilvi.core.clock import span_text
from pilvi.core.errors import Invalid

PATH = "/_pilvi/events"


def status(data_dir: Path, *, as_json: bool) -> str:
    told = _ask(data_dir, action="status")
    if as_json:
        return json.dumps(told)
    lines = [f"log  {said(told)}"]
    for lane in told["lanes"] or ():
        more = "" if lane["is_all"] else " or more"
        failed = f"  {lane['failed']} failed: {lane['error']}" if lane["failed"] else ""
        place = f"{lane['consumer']}  {lane['lane']}" if lane["lane"] else lane["consumer"]
        lines.append(f"{place}  {lane['waiting']}{more} waiting, the oldest for {span_text(int(lane['oldest_s']))}{failed}")
    lines += [f"{consumer}  {many} dead letters" for consumer, many in told["by_consumer"].items()]
    return "\n".join(lines)


def said(told: Mapping[str, Any]) -> str:
    """What the server says of its log, in one line."""
    words = [str(told["log"])]
    if "server" in told:
        words.append(str(told["server"]))
    if told.get("away"):
        words.append(f"AWAY since {told['away_since']}: {told['away']}; facts wait in the outbox ({told['outbox']})")
    return "  ".join(words)


def listed(data_dir: Path, consumer: str, lane: str, limit: int, *, as_json: bool) -> str:
    letters = _ask(data_dir, action="list", consumer=consumer, lane=lane, limit=limit)["letters"]
    if as_json:
        return json.dumps(letters)
    return "\n".join(line(letter) for letter in letters) or "no dead letters"


def line(letter: Mapping[str, Any]) -> str:
    tries = f"{letter['tries']} {'attempt' if letter['tries'] == 1 else 'attempts'}"
    return f"{letter['id']}  {instant(letter['buried'])}  {letter['consumer']}  {letter['lane']}  {letter['key']}  {tries}: {letter['error']}"


def shown(data_dir: Path, ids: Sequence[str]) -> str:
    letters = _ask(data_dir, action="show", ids=list(ids))["letters"]
    return "\n".join(
        json.dumps(letter | {"at": instant(letter["at"]), "buried": instant(letter["buried"])}, indent=2) for letter in letters
    )


def changed(data_dir: Path, action: str, ids: Sequence[str], consumer: str, lane: str, *, everything: bool) -> str:
    """action: revive or delete."""
    if everything == bool(ids):
        raise Invalid("say which dead letters by their ids, or --all (of --consumer and --lane)")
    done = _ask(data_dir, action=action, ids=list(ids), consumer=consumer, lane=lane, all=everything)["done"]
    word = "to be delivered again" if action == "revive" else "deleted"
    return f"{done} {word}"


def instant(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _ask(data_dir: Path, **asked: Any) -> dict[str, Any]:
    return ask(data_dir, "POST", json.dumps(asked).encode(), PATH)
