"""What a FIFO queue was sent in the last five minutes, by deduplication id: in memory, and in the store for after a restart."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from pilvi.core.errors import PilviError
from pilvi.storage.records import Change, Delete, Put, Records

if TYPE_CHECKING:
    from pilvi.services.sqs.engine import Engine
    from pilvi.services.sqs.queues import Queue

INTERVAL_MS: Final = 300_000
"""Source: SQS developer guide, "Exactly-once processing in Amazon SQS"."""
_REMOVED_AT_ONCE: Final = 500


class Sent:
    """A message that went in first."""

    __slots__ = ("at", "commit", "message_id", "seq")

    def __init__(self, message_id: str, seq: int, at: int) -> None:
        self.message_id = message_id
        self.seq = seq
        self.at = at
        self.commit: asyncio.Future[None] | None = None
        """While it is on its way into the store."""


class Duplicates:
    """Of one queue."""

    def __init__(self, store: Records, queue: Queue) -> None:
        self._store = store
        self._table = queue.duplicates
        self._known: dict[str, Sent] = {}
        self._order: deque[tuple[int, str]] = deque()

    def find(self, key: str, since: int) -> Sent | None:
        """What was sent under an id at or after an instant."""
        known = self._known.get(key)
        if known is None:
            row = self._store.get(self._table, key)
            if row is None:
                return None
            known = Sent(row.value["m"], row.value["q"], row.value["at"])
        return known if known.at > since else None

    def mark(self, key: str, sent: Sent) -> Change:
        """Take note; the change belongs into the message's transaction."""
        self._known[key] = sent
        self._order.append((sent.at, key))
        return Put(self._table, key, {"m": sent.message_id, "q": sent.seq, "at": sent.at})

    def committing(self, keys: Sequence[str], work: asyncio.Future[None]) -> None:
        sent = [self._known[key] for key in keys]
        for one in sent:
            one.commit = work

        def ended(done: asyncio.Future[None]) -> None:
            is_lost = done.cancelled() or isinstance(done.exception(), PilviError)
            for key, one in zip(keys, sent, strict=True):
                one.commit = None
                if is_lost and self._known.get(key) is one:
                    del self._known[key]

        work.add_done_callback(ended)

    def forget(self, before: int) -> None:
        """What is older counts no more; its rows go, and nobody waits for that."""
        old: list[Change] = []
        while self._order and self._order[0][0] <= before and len(old) < _REMOVED_AT_ONCE:
            at, key = self._order.popleft()
            known = self._known.get(key)
            if known is not None and known.at == at:
                del self._known[key]
                old.append(Delete(self._table, key))
        if old:
            self._store.submit(old)


def duplicates_of(engine: Engine, queue: Queue) -> Duplicates:
    found = engine.duplicates.get(queue.uid)
    if found is None:
        found = engine.duplicates[queue.uid] = Duplicates(engine.cloud.store, queue)
    return found
