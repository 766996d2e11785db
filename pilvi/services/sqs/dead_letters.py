"""Messages that go on to another queue: to the dead-letter queue when they were received too often, and back (move tasks)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pilvi.core.errors import NotFound, PilviError
from pilvi.core.service import Context
from pilvi.services.sqs.engine import Engine, engine_of
from pilvi.services.sqs.entry import Entry, deletion, id_of
from pilvi.services.sqs.live import Live
from pilvi.services.sqs.queues import Queue
from pilvi.storage.records import Change, Insert


async def move(
    ctx: Context, queue: Queue, live: Live, entries: Sequence[Entry], target: Queue, *, source_arn: str = "", resets: bool = False
) -> None:
    """From one queue into another, in one transaction. Sealed as they are; ids stay. Those that were deleted meanwhile are left out.

    source_arn: what is noted as the queue they died in. resets: they count as sent now, and never received.
    """
    engine = engine_of(ctx.cloud)
    there = engine.live(target)
    now = engine.now()
    changes: list[Change] = []
    new: list[Entry] = []
    gone: list[Entry] = []
    for entry in entries:
        stored = ctx.store.get(queue.messages, entry.id)
        if stored is None:
            gone.append(entry)
            continue
        row = _moved(stored.value, entry, now, source_arn, resets=resets or target.is_fifo, forgets=resets)
        seq = there.next_seq(now)
        changes += [Insert(target.messages, id_of(seq), row), *deletion(queue, entry, with_body=False)]
        new.append(Entry(seq, {key: value for key, value in row.items() if key != "p"}, None))
    for entry in new:
        there.sending[entry.seq] = entry
    failure: PilviError | None = None
    try:
        if changes:
            await ctx.store.commit(changes)
    except PilviError as error:
        failure = error
    if failure is not None:
        for entry in new:
            there.sending.pop(entry.seq, None)
        for entry in entries:
            live.put_back(entry)
        if not isinstance(failure, NotFound):
            raise failure
        return
    for entry in entries:
        live.removed(entry.seq)
    for entry in new:
        there.arrived(entry, engine.now())


def _moved(row: dict[str, Any], entry: Entry, now: int, source_arn: str, *, resets: bool, forgets: bool) -> dict[str, Any]:
    """A FIFO queue's dead letters count as sent now, a standard queue's keep their age. Source: SQS developer guide, "Dead-letter queues"."""
    row.pop("d", None)
    if source_arn:
        row["o"] = source_arn
    if resets:
        row["t"] = now
    if forgets:
        for name in ("c", "f", "o"):
            row.pop(name, None)
    else:
        row["c"], row["f"] = entry.receives, entry.first
    return row


def drop(engine: Engine, live: Live, old: Sequence[Entry]) -> None:
    """Remove messages past their retention; nobody waits for it, as they are gone by the clock already."""
    changes = [change for entry in old for change in deletion(live.queue, entry)]
    for entry in old:
        live.removed(entry.seq)
    engine.cloud.store.submit(changes)
