"""Batches of events: written once, sealed; read forward and backward by time; removed when their time is over.

    LogStream row    _uid, _seq (last number given to an event), _bytes (sealed bytes held)
    LogBatch row     id `<stream uid>:<first timestamp>:<number>`  ->  last timestamp, sealed size, name of the body
    body             seal(zlib(msgpack [[timestamp, number, ingestion time, message], ...]))

Events of a stream are ordered by (timestamp, number): equal timestamps keep the order of arrival. No batch spans more than
SPAN_MS, so a read that starts at a time seeks to it and looks back no further than that; what is not needed is never unsealed.

A removed group or stream leaves a Removed row in the same transaction. Its data is out of reach from then on, and is wiped in
small transactions that a crash may cut anywhere: the row goes last.
"""

from __future__ import annotations

import heapq
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from pilvi.core.errors import Conflict, NotFound
from pilvi.core.service import Context
from pilvi.storage.records import Change, Delete, DeleteBody, Expect, PutBody, Row, Rows

SPAN_MS = 600_000
DAY_MS = 86_400_000
SWEEP_EVERY_MS = 3_600_000
SCAN_ROWS = 256
PURGE_ROWS = 200

_locks = tuple(threading.Lock() for _ in range(64))
"""Writers of one stream queue here instead of meeting as Conflicts; the versions in the store still decide."""


class Event(NamedTuple):
    timestamp: int
    number: int
    ingestion: int
    message: str


Events = list[tuple[int, int, int, str]]
_decoder = msgspec.msgpack.Decoder(Events)
_encoder = msgspec.msgpack.Encoder()


def now_ms(ctx: Context) -> int:
    return int(ctx.clock.time_s() * 1000)


def stream_id(group: Mapping[str, Any], name: str) -> str:
    """The row id of a stream; the group's own uid keeps a later group of the same name apart."""
    return f"{group['_uid']}:{name}"


def streams_of(ctx: Context, group: Mapping[str, Any], prefix: str = "") -> Iterator[dict[str, Any]]:
    rows_of, start, after = ctx.records("LogStream"), stream_id(group, prefix), ""
    while rows := rows_of.scan(prefix=start, after=after, limit=SCAN_ROWS):
        yield from (row.value for row in rows)
        after = rows[-1].id


def stored_bytes(ctx: Context, group: Mapping[str, Any]) -> int:
    """What the group's events occupy, compressed and sealed."""
    return sum(stream["_bytes"] for stream in streams_of(ctx, group))


def sequence_token(stream: Mapping[str, Any]) -> str:
    return f"{int(stream['_uid'], 16):020d}{stream['_seq']:036d}"


def lock_of(stream: str) -> threading.Lock:
    return _locks[hash(stream) % len(_locks)]


# -- writing ------------------------------------------------------------------------------------------------------------


def append(ctx: Context, group: Row, stream: Row, events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Add events (in order of time) to a stream in one durable transaction; gives the stream's new record.

    Conflict when the group or the stream changed since it was read.
    """
    value = dict(stream.value)
    ingestion = max(now_ms(ctx), value.get("lastIngestionTime", 0))
    batches: list[Events] = []
    for event in events:
        value["_seq"] += 1
        entry = (event["timestamp"], value["_seq"], ingestion, event["message"])
        if not batches or entry[0] - batches[-1][0][0] >= SPAN_MS:
            batches.append([])
        batches[-1].append(entry)
    changes: list[Change] = [Expect(ctx.records("LogGroup").table, group.id, group.version)]
    for batch in batches:
        first, number, last = batch[0][0], batch[0][1], batch[-1][0]
        body = f"logs:{value['_uid']}:{number}"
        sealed = ctx.keyring.seal(zlib.compress(_encoder.encode(batch), 1), body.encode())
        row = {"last": last, "bytes": len(sealed), "body": body}
        changes += [ctx.records("LogBatch").insertion(batch_id(value["_uid"], first, number), row), PutBody(body, sealed)]
        value["_bytes"] += len(sealed)
    first, last = events[0]["timestamp"], events[-1]["timestamp"]
    value["firstEventTimestamp"] = min(first, value.get("firstEventTimestamp", first))
    value["lastEventTimestamp"] = max(last, value.get("lastEventTimestamp", last))
    value["lastIngestionTime"] = ingestion
    changes.append(ctx.records("LogStream").revision(stream.id, value, stream.version))
    ctx.write(*changes)
    return value


def batch_id(uid: str, first: int, number: int) -> str:
    return f"{uid}:{first:014d}:{number:016d}"


# -- reading ------------------------------------------------------------------------------------------------------------


def read_forward(ctx: Context, stream: Mapping[str, Any], start: int, number: int = 0) -> Iterator[Event]:
    """Events from (start, number) on, the earliest first."""
    waiting: list[Event] = []
    for row in batches_from(ctx, stream["_uid"], start):
        if row.value["last"] < start:
            continue
        first = first_of(row)
        while waiting and waiting[0].timestamp < first:
            yield heapq.heappop(waiting)
        for event in opened(ctx, row):
            if event[:2] >= (start, number):
                heapq.heappush(waiting, event)
    while waiting:
        yield heapq.heappop(waiting)


def read_backward(ctx: Context, stream: Mapping[str, Any], end: int, number: int = 0) -> Iterator[Event]:
    """Events before (end, number), the latest first.

    A batch is unsealed only when its last event may be the next one: batches wait by their last time, events by theirs.
    """
    batches: list[tuple[int, str, Row]] = []
    events: list[tuple[int, int, Event]] = []
    rows = batches_before(ctx, stream["_uid"], end)
    row = next(rows, None)
    while row is not None or batches or events:
        latest = max(-batches[0][0] if batches else -1, -events[0][0] if events else -1)
        if row is not None and first_of(row) + SPAN_MS >= latest:
            heapq.heappush(batches, (-min(row.value["last"], end), row.id, row))
            row = next(rows, None)
        elif batches and (not events or -batches[0][0] >= -events[0][0]):
            for event in opened(ctx, heapq.heappop(batches)[2]):
                if event[:2] < (end, number):
                    heapq.heappush(events, (-event.timestamp, -event.number, event))
        else:
            yield heapq.heappop(events)[2]


def batches_from(ctx: Context, uid: str, start: int) -> Iterator[Row]:
    """Rows of batches that may hold events at `start` or later, by their first time."""
    table, after = ctx.records("LogBatch"), batch_id(uid, max(start - SPAN_MS, 0), 0)
    while rows := table.scan(prefix=f"{uid}:", after=after, limit=SCAN_ROWS):
        yield from rows
        after = rows[-1].id


def batches_before(ctx: Context, uid: str, end: int) -> Iterator[Row]:
    """Rows of batches that begin at `end` or before, the latest first."""
    table, before = ctx.records("LogBatch"), batch_id(uid, end + 1, 0)
    while rows := table.scan(prefix=f"{uid}:", before=before, limit=SCAN_ROWS, reverse=True):
        yield from rows
        before = rows[-1].id


def first_of(row: Row) -> int:
    return int(row.id.split(":")[1])


def opened(ctx: Context, row: Row) -> Iterable[Event]:
    """The events of a batch; none when it was removed meanwhile."""
    try:
        sealed = ctx.store.body(row.value["body"])
    except NotFound:
        return ()
    plain = ctx.keyring.unseal(sealed or b"", row.value["body"].encode())
    return map(Event._make, _decoder.decode(zlib.decompress(plain)))


# -- removing -----------------------------------------------------------------------------------------------------------


def cutoff_of(ctx: Context, group: Mapping[str, Any]) -> int:
    """Events before this time have expired; 0 when nothing expires."""
    days = group.get("retentionInDays")
    return now_ms(ctx) - days * DAY_MS if days else 0


def sweep(ctx: Context, group: Mapping[str, Any], *, force: bool = False) -> None:
    """Wipe batches whose every event has expired; at most once an hour unless forced (reads hide them anyway)."""
    if not group.get("retentionInDays"):
        return
    swept: dict[str, int] = ctx.cloud.memory.setdefault("logs", {})
    now = now_ms(ctx)
    if not force and now - swept.get(group["_uid"], 0) < SWEEP_EVERY_MS:
        return
    swept[group["_uid"]] = now
    cutoff = cutoff_of(ctx, group)
    for stream in streams_of(ctx, group):
        while sweep_some(ctx, stream_id(group, stream["logStreamName"]), cutoff):
            pass


def sweep_some(ctx: Context, id: str, cutoff: int) -> bool:
    """Wipe some expired batches of a stream; whether there may be more."""
    stream = ctx.records("LogStream").row(id)
    if stream is None:
        return False
    uid, batches = stream.value["_uid"], ctx.records("LogBatch")
    rows = [
        r for r in batches.scan(prefix=f"{uid}:", before=batch_id(uid, cutoff, 0), limit=PURGE_ROWS) if r.value["last"] < cutoff
    ]
    if not rows:
        return False
    held = stream.value["_bytes"] - sum(row.value["bytes"] for row in rows)
    changes = [change for row in rows for change in (batches.deletion(row.id), DeleteBody(row.value["body"]))]
    with suppress(Conflict, NotFound):  # somebody wrote or wiped meanwhile: look again
        ctx.write(ctx.records("LogStream").revision(id, stream.value | {"_bytes": held}, stream.version), *changes)
    return True


def removal_of_group(ctx: Context, uid: str) -> Change:
    return ctx.records("Removed").replacement(f"group:{uid}", {})


def removal_of_stream(ctx: Context, uid: str) -> Change:
    return ctx.records("Removed").replacement(f"stream:{uid}", {})


def purge_removed(ctx: Context) -> None:
    """Wipe what belongs to removed groups and streams, left-overs of a crash included."""
    removed = ctx.records("Removed")
    while rows := removed.scan(limit=1):
        kind, _, uid = rows[0].id.partition(":")
        try:
            if kind == "group":
                purge_streams(ctx, uid)
            else:
                purge_batches(ctx, uid)
            ctx.write(removed.deletion(rows[0].id))
        except NotFound:
            continue  # another thread is wiping the same


def purge_streams(ctx: Context, group_uid: str) -> None:
    """Turn every stream of a removed group into a removed stream."""
    streams = ctx.records("LogStream")
    while rows := streams.scan(prefix=f"{group_uid}:", limit=PURGE_ROWS):
        ctx.write(*[change for row in rows for change in (streams.deletion(row.id), removal_of_stream(ctx, row.value["_uid"]))])


def purge_batches(ctx: Context, uid: str) -> None:
    batches: Rows = ctx.records("LogBatch")
    while rows := batches.scan(prefix=f"{uid}:", limit=PURGE_ROWS):
        wipe: list[Delete | DeleteBody] = []
        for row in rows:
            wipe += [batches.deletion(row.id), DeleteBody(row.value["body"])]
        ctx.write(*wipe)
