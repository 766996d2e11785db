"""Log events: put into a stream, got from it in either direction, filtered over a group."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, takewhile
from typing import Any, NamedTuple

from pilvi.core.errors import Conflict, Invalid, NotFound
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Context, Operations
from pilvi.services.logs import event_store
from pilvi.services.logs.event_store import DAY_MS, Event
from pilvi.services.logs.filter_pattern import compile_pattern
from pilvi.services.logs.log_group import find_group
from pilvi.services.logs.log_stream import find_stream

ops = Operations()

# Source: "The batch of events must satisfy the following constraints" in the documentation of PutLogEvents.
BATCH_BYTES = 1_048_576
EVENT_BYTES = 1_048_576
EVENT_OVERHEAD_BYTES = 26
OLDEST_MS = 14 * DAY_MS
NEWEST_MS = 2 * 3_600_000

PAGE_EVENTS = 10_000
PAGE_BYTES = 1_048_576
SCAN_BYTES = 32 * 1_048_576
"""A filter page that found little ends after this much text, with a token, so that one call stays short."""
SEARCH_BACK_FROM_MS = 1_704_067_200_000
END_OF_TIME = 10**13
TOKEN = re.compile(r"([fb])/(\d{14})(\d{20})(\d{22})/s")


@ops
def put_log_events(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add events to a stream; they are on the disk and readable when this answers.

    req: logEvents (1-10,000, in order of time, at most 1 MiB counting 26 bytes for each); sequenceToken is ignored, as on AWS.
    Errors: InvalidParameterException - out of order, too large, or over 24 hours wide. ResourceNotFoundException - no such group or stream.
    Source: API reference of PutLogEvents; events too old, expired or too new are told in rejectedLogEventsInfo and not kept.
    Differs: the entity is accepted and not kept.
    """
    events: Sequence[Mapping[str, Any]] = req["logEvents"]
    check_batch(events)
    with event_store.lock_of(f"{req['logGroupName']}:{req['logStreamName']}"):
        while True:
            group = ctx.records("LogGroup").row(req["logGroupName"])
            if group is None:
                raise NotFound("The specified log group does not exist.")
            stream = find_stream(ctx, group.value, req["logStreamName"])
            accepted, rejected = divided(ctx, group.value, events)
            if not accepted:
                return {"nextSequenceToken": event_store.sequence_token(stream.value), "rejectedLogEventsInfo": rejected}
            if accepted[-1]["timestamp"] - accepted[0]["timestamp"] > DAY_MS:
                raise Invalid("The batch of log events in a single PutLogEvents request cannot span more than 24 hours.")
            try:
                written = event_store.append(ctx, group, stream, accepted)
            except Conflict:
                continue
            break
    event_store.sweep(ctx, group.value)
    return {"nextSequenceToken": event_store.sequence_token(written), "rejectedLogEventsInfo": rejected or None}


@ops
def get_log_events(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A page of one stream, in order of time: its last events, or from the head, or on from a token in the token's direction.

    req: startTime (inclusive, ms), endTime (exclusive, ms), limit (at most 10,000; a page ends at 1 MiB), nextToken, startFromHead.
    Errors: ResourceNotFoundException - no such group or stream. InvalidParameterException - a token that was not given here.
    Both tokens are always there; at either end the token comes back as it was given.
    """
    group = find_group(ctx, req)
    stream = find_stream(ctx, group, req["logStreamName"]).value
    event_store.sweep(ctx, group)
    start, end = window(ctx, group, req)
    direction, position = parsed_token(req, stream)
    limit = req.get("limit") or PAGE_EVENTS
    if direction == "f":
        found = page_forward(ctx, stream, max(position, (start, 0)), end, limit)
    else:
        found = page_backward(ctx, stream, min(position, (end, 0)), start, limit)
    first, last = (found[0][:2], found[-1][:2]) if found else (None, None)
    at = position if req.get("nextToken") else (start, 0)
    return {
        "events": [{"timestamp": e.timestamp, "message": e.message, "ingestionTime": e.ingestion} for e in found],
        "nextForwardToken": token_of("f", stream, (last[0], last[1] + 1) if last else at),
        "nextBackwardToken": token_of("b", stream, first or at),
    }


@ops
def filter_log_events(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Events of a group, of all its streams together, that match a pattern.

    req: logStreamNames (at most 100) or logStreamNamePrefix, startTime and endTime (both inclusive, ms), filterPattern,
    limit (at most 10,000; a page ends at 1 MiB), startFromHead (default true).
    Errors: InvalidParameterException - names together with a prefix, a pattern that does not parse, a foreign token.
    ResourceNotFoundException - no such group, or none such stream among logStreamNames.
    Ordered by timestamp, ingestion time, stream and arrival; eventId is the same in every answer.
    """
    group = find_group(ctx, req)
    if req.get("logStreamNames") and req.get("logStreamNamePrefix"):
        raise Invalid("logStreamNamePrefix and logStreamNames are mutually exclusive.")
    matches = compile_pattern(req.get("filterPattern") or "")
    event_store.sweep(ctx, group)
    start, end = window(ctx, group, req)
    if req.get("endTime") is not None and req.get("startTime") is not None and req["startTime"] > req["endTime"]:
        raise Invalid("startTime must be less than or equal to endTime.")
    ascending, resume = parsed_filter_token(req)
    if not ascending and req.get("startTime") is not None and req["startTime"] < SEARCH_BACK_FROM_MS:
        raise Invalid("startFromHead can be false only when startTime is on or after January 1, 2024 00:00:00 UTC.")
    streams = chosen_streams(ctx, group, req)
    merged = merge_forward(ctx, streams, start, end, resume) if ascending else merge_backward(ctx, streams, start, end, resume)
    events, last, ended = collect(merged, matches, req.get("limit") or PAGE_EVENTS)
    return {
        "events": events,
        "searchedLogStreams": [],
        "nextToken": None if ended or last is None else encode_token("{}:{}:{}:{}:{}".format("f" if ascending else "b", *last)),
    }


# -- putting ------------------------------------------------------------------------------------------------------------


def check_batch(events: Sequence[Mapping[str, Any]]) -> None:
    total, before = 0, 0
    for event in events:
        if event["timestamp"] < before:
            raise Invalid("Log events in a single PutLogEvents request must be in chronological order.")
        before = event["timestamp"]
        size = len(event["message"].encode()) + EVENT_OVERHEAD_BYTES
        if size > EVENT_BYTES:
            raise Invalid(f"Log event too large: {size} bytes exceeds limit of {EVENT_BYTES}")
        total += size
    if total > BATCH_BYTES:
        raise Invalid(f"Upload too large: {total} bytes exceeds limit of {BATCH_BYTES}")


def divided(
    ctx: Context, group: Mapping[str, Any], events: Sequence[Mapping[str, Any]]
) -> tuple[Sequence[Mapping[str, Any]], dict[str, int]]:
    """The events to keep, and AWS's three indices of those that are not (ends are exclusive)."""
    now, rejected = event_store.now_ms(ctx), {}
    too_old = sum(event["timestamp"] < now - OLDEST_MS for event in events)
    expired = sum(event["timestamp"] < event_store.cutoff_of(ctx, group) for event in events)
    too_new = len(events) - sum(event["timestamp"] > now + NEWEST_MS for event in events)
    if too_old:
        rejected["tooOldLogEventEndIndex"] = too_old
    if expired > too_old:
        rejected["expiredLogEventEndIndex"] = expired
    if too_new < len(events):
        rejected["tooNewLogEventStartIndex"] = too_new
    return events[max(too_old, expired) : too_new], rejected


# -- getting ------------------------------------------------------------------------------------------------------------


def window(ctx: Context, group: Mapping[str, Any], req: Mapping[str, Any]) -> tuple[int, int]:
    """From when to when a request looks, expired events left out."""
    end = END_OF_TIME if req.get("endTime") is None else req["endTime"]
    return min(max(req.get("startTime") or 0, event_store.cutoff_of(ctx, group)), END_OF_TIME), min(end, END_OF_TIME)


def page_forward(ctx: Context, stream: Mapping[str, Any], position: tuple[int, int], end: int, limit: int) -> list[Event]:
    events = event_store.read_forward(ctx, stream, *position)
    return list(fitting(takewhile(lambda event: event.timestamp < end, events), limit))


def page_backward(ctx: Context, stream: Mapping[str, Any], position: tuple[int, int], start: int, limit: int) -> list[Event]:
    events = event_store.read_backward(ctx, stream, *position)
    return list(fitting(takewhile(lambda event: event.timestamp >= start, events), limit))[::-1]


def fitting(events: Iterable[Event], limit: int) -> Iterator[Event]:
    """As many as a page holds, and at least one."""
    total = 0
    for event in islice(events, limit):
        size = len(event.message.encode()) + EVENT_OVERHEAD_BYTES
        if total and total + size > PAGE_BYTES:
            return
        total += size
        yield event


def token_of(direction: str, stream: Mapping[str, Any], position: tuple[int, int]) -> str:
    return f"{direction}/{position[0]:014d}{int(stream['_uid'], 16):020d}{position[1]:022d}/s"


def parsed_token(req: Mapping[str, Any], stream: Mapping[str, Any]) -> tuple[str, tuple[int, int]]:
    """Direction and position: `f` goes on at the position, `b` ends before it."""
    token = req.get("nextToken")
    if not token:
        return ("f", (0, 0)) if req.get("startFromHead") else ("b", (END_OF_TIME, 0))
    parts = TOKEN.fullmatch(token)
    if parts is None or int(parts[3]) != int(stream["_uid"], 16):
        raise Invalid("The specified nextToken is invalid.")
    return parts[1], (int(parts[2]), int(parts[4]))


# -- filtering ----------------------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """Where an event stands among the events of a whole group."""

    timestamp: int
    ingestion: int
    stream: int
    number: int


Placed = tuple[Place, str, Event]


def chosen_streams(ctx: Context, group: Mapping[str, Any], req: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The streams to search that hold anything."""
    if names := req.get("logStreamNames"):
        streams: Iterable[dict[str, Any]] = [find_stream(ctx, group, name).value for name in dict.fromkeys(names)]
    else:
        streams = event_store.streams_of(ctx, group, req.get("logStreamNamePrefix") or "")
    return [stream for stream in streams if "lastEventTimestamp" in stream]


def merge_forward(ctx: Context, streams: list[dict[str, Any]], start: int, end: int, resume: Place | None) -> Iterator[Placed]:
    """Events of many streams in one order; a stream is opened when its first event's time has come."""
    if resume is not None:
        start = max(start, resume.timestamp)
    unopened = sorted((max(s["firstEventTimestamp"], start), s["_uid"], s) for s in streams if s["lastEventTimestamp"] >= start)
    heads: list[tuple[Place, int, str, Event, Iterator[Event]]] = []
    index = 0
    while heads or index < len(unopened):
        if index < len(unopened) and (not heads or unopened[index][0] <= heads[0][0].timestamp):
            stream = unopened[index][2]
            push(heads, stream["logStreamName"], int(stream["_uid"], 16), event_store.read_forward(ctx, stream, start), index)
            index += 1
            continue
        place, tie, name, event, rest = heapq.heappop(heads)
        if place.timestamp > end:
            return
        if resume is None or place > resume:
            yield place, name, event
        push(heads, name, place.stream, rest, tie)


def push(heads: list[Any], name: str, stream: int, events: Iterator[Event], tie: int) -> None:
    if (event := next(events, None)) is not None:
        heapq.heappush(heads, (Place(event.timestamp, event.ingestion, stream, event.number), tie, name, event, events))


def merge_backward(ctx: Context, streams: list[dict[str, Any]], start: int, end: int, resume: Place | None) -> Iterator[Placed]:
    """The same, the latest first."""
    if resume is not None:
        end = min(end, resume.timestamp)

    def placed(stream: dict[str, Any]) -> Iterator[tuple[tuple[int, ...], Placed]]:
        uid = int(stream["_uid"], 16)
        for event in event_store.read_backward(ctx, stream, end + 1):
            place = Place(event.timestamp, event.ingestion, uid, event.number)
            yield tuple(-part for part in place), (place, stream["logStreamName"], event)

    alive = [s for s in streams if s["lastEventTimestamp"] >= start and s["firstEventTimestamp"] <= end]
    for _, found in heapq.merge(*map(placed, alive), key=lambda item: item[0]):
        if found[0].timestamp < start:
            return
        if resume is None or found[0] < resume:
            yield found


def collect(merged: Iterator[Placed], matches: Any, limit: int) -> tuple[list[dict[str, Any]], Place | None, bool]:
    """A page of matching events, the place of the last event looked at, and whether nothing follows it."""
    events: list[dict[str, Any]] = []
    page_bytes = scanned_bytes = 0
    last: Place | None = None
    for place, stream, event in merged:
        size = len(event.message.encode()) + EVENT_OVERHEAD_BYTES
        scanned_bytes += size
        if matches(event.message):
            if len(events) >= limit or (events and page_bytes + size > PAGE_BYTES):
                return events, last, False
            page_bytes += size
            events.append(
                {
                    "logStreamName": stream,
                    "timestamp": event.timestamp,
                    "message": event.message,
                    "ingestionTime": event.ingestion,
                    "eventId": f"{place.timestamp:014d}{place.stream:020d}{place.number:022d}",
                }
            )
        last = place
        if scanned_bytes > SCAN_BYTES:
            return events, last, False
    return events, last, True


def parsed_filter_token(req: Mapping[str, Any]) -> tuple[bool, Place | None]:
    """Whether ascending, and the place after which to go on."""
    position = decode_token(req.get("nextToken"))
    if not position:
        return req.get("startFromHead") is not False, None
    direction, *numbers = position.split(":")
    if len(numbers) != 4 or not all(number.isdigit() for number in numbers):
        raise Invalid("The specified nextToken is invalid.")
    return direction == "f", Place(*map(int, numbers))
