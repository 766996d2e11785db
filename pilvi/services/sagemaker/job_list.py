"""Long lists of jobs, a page at a time: an index by creation time, so that a page costs what it shows, however many jobs there are.

<Noun>ByTime    microseconds since 1970 in 20 digits, '#', name in lower case  ->  {"name": ...}
                READY                                                          ->  {}     every record is in the index
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from pilvi.core.errors import Invalid
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Context
from pilvi.storage.records import Change, Rows

Record = dict[str, Any]

READY = "!"
"""Sorts before every digit."""
_PORTION = 200


def indexing(ctx: Context, noun: str, record: Mapping[str, Any]) -> tuple[Change, ...]:
    """The changes that put a new record into the index, for the transaction that makes it."""
    index = _index(ctx, noun)
    return (*_building(ctx, noun), index.replacement(_key(record, noun), {"name": _name(record, noun)}))


def unindexing(ctx: Context, noun: str, record: Mapping[str, Any]) -> tuple[Change, ...]:
    """The change that takes a record out, for the transaction that forgets it."""
    index, key = _index(ctx, noun), _key(record, noun)
    return (index.deletion(key),) if index.find(key) is not None else ()


def page(
    ctx: Context, noun: str, req: Mapping[str, Any], entry_of: Callable[[Record], Record | None], *, order: str
) -> tuple[list[Record], str | None]:
    """The next entries in order of CreationTime or Name, and the token of the page after. entry_of: a record's entry, or None
    where the request is not after it."""
    is_down = (req.get("SortOrder") or order) == "Descending"
    size, after = req.get("MaxResults") or 10, _position(req.get("NextToken"), noun)
    found: list[tuple[str, Record]] = []
    for key, record in (_by_name if req.get("SortBy") == "Name" else _by_time)(ctx, noun, req, after, size + 1, is_down):
        if (entry := entry_of(record)) is not None:
            found.append((key, entry))
            if len(found) > size:
                break
    more = encode_token(json.dumps([noun, found[size - 1][0]])) if len(found) > size else None
    return [entry for _, entry in found[:size]], more


def _by_name(ctx: Context, noun: str, _: Mapping[str, Any], after: str, first: int, is_down: bool) -> Iterator[tuple[str, Record]]:
    start, end = ("", after) if is_down else (after, "")
    for row in _rows(ctx.records(noun), start, end, first, is_down):
        yield row.id, row.value


def _by_time(
    ctx: Context, noun: str, req: Mapping[str, Any], after: str, first: int, is_down: bool
) -> Iterator[tuple[str, Record]]:
    if changes := _building(ctx, noun):
        ctx.write(*changes)
    # No key is just these digits, so both bounds are exclusive of nothing that is asked for.
    low, high = (req.get(member) for member in ("CreationTimeAfter", "CreationTimeBefore"))
    bottom = _stamp(low) if low else READY
    top = f"{_stamp(high)}~" if high else ""
    start, end = (bottom, min(filter(None, (after, top)), default="")) if is_down else (max(after, bottom), top)
    for row in _rows(_index(ctx, noun), start, end, first, is_down):
        if (record := ctx.records(noun).find(row.value["name"])) is not None:
            yield row.id, record


def _rows(table: Rows, after: str, before: str, first: int, is_down: bool) -> Iterator[Any]:
    """Rows between two keys, up or down, in portions."""
    limit = first
    while True:
        if is_down:
            rows = table.scan(after=after, before=before, limit=limit, reverse=True)
        else:
            rows = table.scan(after=after, before=before, limit=limit)
        yield from rows
        if len(rows) < limit:
            return
        if is_down:
            before = rows[-1].id
        else:
            after = rows[-1].id
        limit = _PORTION


def _building(ctx: Context, noun: str) -> tuple[Change, ...]:
    """The changes that index records from before there was an index; none when there is nothing to do."""
    index = _index(ctx, noun)
    if index.find(READY) is not None:
        return ()
    records = ctx.records(noun).all()
    return (
        *(index.replacement(_key(record, noun), {"name": _name(record, noun)}) for record in records),
        index.replacement(READY, {}),
    )


def _index(ctx: Context, noun: str) -> Rows:
    return ctx.records(f"{noun}ByTime")


def _key(record: Mapping[str, Any], noun: str) -> str:
    return f"{_stamp(record['CreationTime'])}#{_name(record, noun)}"


def _stamp(instant: datetime) -> str:
    return f"{round(instant.timestamp() * 1_000_000):020d}"


def _name(record: Mapping[str, Any], noun: str) -> str:
    return str(record[f"{noun}Name"]).lower()


def _position(token: str | None, noun: str) -> str:
    if not token:
        return ""
    try:
        kind, key = json.loads(decode_token(token))
    except (ValueError, TypeError) as error:
        raise Invalid("Invalid NextToken.") from error
    if kind != noun:
        raise Invalid("Invalid NextToken.")
    return str(key)
