"""Events put on a bus: up to ten at a time, each taken or refused by itself, durable when answered.

Source: EventBridge API reference, PutEvents, PutEventsRequestEntry; user guide, "Calculating PutEvents event entry size".
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.events.told import instant
from pilvi.services.events.accept import Accepted, Coming, gather
from pilvi.services.events.buses import catalog_of, place_of
from pilvi.services.events.errors import invalid
from pilvi.services.events.figures import count_here
from pilvi.services.events.usage import count_event

ops = Operations(on_loop=True)

MOST_BYTES: Final = 1 << 20
MOST_DETAIL_TYPE: Final = 128
MOST_DEPTH: Final = 800
MOST_INTEGER: Final = 1 << 63


@ops
async def put_events(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Put events on buses.

    req: Entries (1-10, 1 MiB together): Source (not aws.*), DetailType (128), Detail (a JSON object), Resources, Time, EventBusName
    (name or ARN, also of another account or Region that lets the caller in), TraceHeader.
    Errors: ValidationException - too large together. Entries fail with InvalidArgument, MalformedDetail, NotAuthorizedForSourceException.
    An event for a bus that is not there is taken and goes nowhere, as on AWS.
    Differs: details may be nested 800 levels deep, not 1000.
    """
    if req.get("EndpointId"):
        raise ServiceError("NotImplemented", "Global endpoints are not built into this cloud yet.", 501)
    entries = req["Entries"]
    sizes = [size_of(entry) for entry in entries]
    if sum(sizes) > MOST_BYTES:
        raise invalid("Total size of the entries in the request is over the limit.")
    accepted = Accepted()
    answers = [await _put(ctx, entry, size, accepted) for entry, size in zip(entries, sizes, strict=True)]
    if accepted.changes:
        await ctx.store.commit(accepted.changes)
        accepted.wake(ctx.cloud)
    failed = sum(1 for answer in answers if "ErrorCode" in answer)
    for metric, many in (
        ("PutEventsApproximateCallCount", 1),
        ("PutEventsEntriesCount", len(entries)),
        ("PutEventsFailedEntriesCount", failed),
    ):
        count_here(ctx.cloud, ctx.account, ctx.region, metric, many)
    return {"FailedEntryCount": failed, "Entries": answers}


async def _put(ctx: Context, entry: Mapping[str, Any], size: int, accepted: Accepted) -> dict[str, Any]:
    """Note what one entry causes; gives its line of the answer."""
    detail: Any = None
    problem = problem_of(entry)
    if problem is None:
        detail = parsed(entry["Detail"])
        problem = ("MalformedDetail", "Detail is malformed.") if detail is None else None
    if problem is not None:
        return {"ErrorCode": problem[0], "ErrorMessage": problem[1]}
    place = place_of(ctx, entry.get("EventBusName"))
    event = event_of(ctx, entry, detail)
    count_event(ctx.cloud, ctx.principal.account, place.region, size)
    bus = catalog_of(ctx.cloud).bus(place)
    if bus is not None:
        at = entry.get("Time") or ctx.clock.now()
        coming = Coming(at_ms=int(at.timestamp() * 1000), trace=entry.get("TraceHeader") or ctx.trace)
        await gather(ctx.cloud, bus, event, accepted, coming)
    return {"EventId": event["id"]}


def event_of(ctx: Context, entry: Mapping[str, Any], detail: dict[str, Any]) -> dict[str, Any]:
    """The event that rules see."""
    return {
        "version": "0",
        "id": ctx.ids.uuid(),
        "detail-type": entry["DetailType"],
        "source": entry["Source"],
        "account": ctx.principal.account,
        "time": instant(entry.get("Time") or ctx.clock.now()),
        "region": ctx.region,
        "resources": list(entry.get("Resources") or ()),
        "detail": detail,
    }


def problem_of(entry: Mapping[str, Any]) -> tuple[str, str] | None:
    """Why an entry is refused: code and message."""
    for member in ("Source", "DetailType", "Detail"):
        if not entry.get(member):
            return "InvalidArgument", f"Parameter {member} is not valid. Reason: {member} is a required argument."
    if len(entry["DetailType"]) > MOST_DETAIL_TYPE:
        return "InvalidArgument", "Parameter DetailType is not valid. Reason: DetailType must be at most 128 characters."
    if entry["Source"].startswith("aws."):
        return "NotAuthorizedForSourceException", "Not authorized for the source."
    return None


def parsed(text: str) -> dict[str, Any] | None:
    """The detail; None where it is no JSON object."""
    try:
        detail = json.loads(text, parse_constant=_refuse)
        text.encode()
        return detail if isinstance(detail, dict) and is_told(detail) else None
    except (ValueError, RecursionError):
        return None


def _refuse(name: str) -> None:
    raise ValueError(name)


def is_told(detail: Any) -> bool:
    """Whether a detail is no deeper nested and has no larger numbers than events may have, and is text that can be sent."""
    depth, level = 0, [detail]
    while level := [one for one in level if not _is_plain(one)]:
        depth += 1
        level = [each for one in level for each in ((*one, *one.values()) if isinstance(one, dict) else one)]
    return depth <= MOST_DEPTH


def _is_plain(value: Any) -> bool:
    """No object or list; ValueError for what no event holds."""
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, int | float) and not (math.isfinite(value) and (isinstance(value, float) or abs(value) <= MOST_INTEGER)):
        raise ValueError(value)
    return not isinstance(value, dict | list)


def size_of(entry: Mapping[str, Any]) -> int:
    """Bytes, as AWS counts them."""
    size = 14 if entry.get("Time") else 0
    texts = [entry.get("Source"), entry.get("DetailType"), entry.get("Detail"), *(entry.get("Resources") or ())]
    return size + sum(len(text.encode()) for text in texts if text)
