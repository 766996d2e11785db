"""`/_pilvi/events`: the events room, for whom the server belongs to; `pilvi events` asks here.

    POST {"action": "status"}                                   -> {"log", ..., "dead", "lanes": [...]}
    POST {"action": "list", "consumer", "lane", "limit"}        -> {"letters": [...]}
    POST {"action": "show", "ids": [...]}                       -> {"letters": [...]} with their facts
    POST {"action": "revive" | "delete", "ids" or "all": true, "consumer", "lane"}   -> {"done": number}

Signed by the root of the server's own account (gateway/clock.py); with `--auth open` by nobody.
"""

from __future__ import annotations

import asyncio
import base64
import json
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from pilvi.core.errors import Invalid, NotFound, PilviError, Unavailable
from pilvi.events.letters import Letters, told
from pilvi.gateway.clock import is_owner

if TYPE_CHECKING:
    from pilvi.app.cloud import Cloud
    from pilvi.core.http import Request

PATH: Final = "/_pilvi/events"
BODY_BYTES: Final = 1 << 20
MOST: Final = 1000
"""Letters in one answer."""


async def letters(cloud: Cloud, request: Request) -> tuple[int, dict[str, Any]]:
    """(status, JSON)"""
    if request.method != "POST" or request.body.length is None or request.body.length > BODY_BYTES:
        return 400, {"message": f'{PATH} takes a POST with JSON like {{"action": "list"}}'}
    body = await request.body.read()
    try:
        if cloud.config.auth != "open" and not is_owner(cloud, request, body):
            return 403, {"message": "what the events room holds is told to the root of the server's own account: pilvi events"}
        return 200, await _answered(cloud.letters, _asked(body))
    except Invalid as error:
        return 400, {"message": error.message}
    except NotFound as error:
        return 404, {"message": error.message}
    except Unavailable as error:
        return 503, {"message": error.message}
    except PilviError as error:
        return 403, {"message": error.message}


def _asked(body: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(body)
        ids = asked.get("ids") or []
        texts = [asked.setdefault("consumer", ""), asked.setdefault("lane", ""), *ids]
        limit = asked.setdefault("limit", MOST)
        is_sound = isinstance(ids, list) and all(isinstance(text, str) for text in texts) and type(limit) is int
    except (ValueError, AttributeError, TypeError):
        is_sound = False
    if not is_sound:
        raise Invalid('the body is JSON like {"action": "list", "consumer": "s3/notifications", "lane": "bucket", "ids": []}')
    return {**asked, "ids": ids}


async def _answered(room: Letters, asked: dict[str, Any]) -> dict[str, Any]:
    ids, consumer, lane = asked["ids"], asked["consumer"], asked["lane"]
    match asked.get("action"):
        case "status":
            return await asyncio.to_thread(lambda: {**room.status(), "by_consumer": room.counts(), "lanes": _lanes(room)})
        case "list":
            most = max(0, min(asked["limit"], MOST))
            found = await asyncio.to_thread(lambda: list(islice(room.dead(consumer, lane), most)))
            return {"letters": [told(name, entry, whole=False) for name, entry in found]}
        case "show":
            found = await asyncio.to_thread(room.chosen, ids[:MOST])
            return {"letters": [_plain(told(name, entry, whole=True)) for name, entry in found]}
        case "revive" | "delete" as action:
            is_all = asked.get("all") is True
            if is_all == bool(ids):
                raise Invalid("say which dead letters by their ids, or that all are meant")
            found = await asyncio.to_thread(lambda: room.chosen(ids, consumer, lane, everything=is_all))
            await (room.revive if action == "revive" else room.delete)(found)
            return {"done": len(found)}
    raise Invalid("action is one of status, list, show, revive and delete")


def _lanes(room: Letters) -> list[dict[str, Any]] | None:
    """None while the log cannot be reached: the status says why."""
    try:
        return room.waiting()
    except Unavailable:
        return None


def _plain(value: Any) -> Any:
    """A fact as JSON has it: bytes in base 64, instants as text."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value if isinstance(value, str | int | float | bool | None) else str(value)
