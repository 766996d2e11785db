"""What a FIFO topic was told in the last five minutes, by deduplication id: in memory, and in the store for after a restart.

    Table(account, Region, "snsdata", topic's uid + "!")    deduplication id -> {m: message id, q: sequence number, at}

Source: SNS developer guide, "Message deduplication for FIFO topics".
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from pilvi.services.sns.topics import DATA, Topic
from pilvi.storage.records import Change, Delete, Put, Table

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

INTERVAL_S: Final = 300.0
_REMOVED_AT_ONCE: Final = 500
_MEMORY: Final = "sns:duplicates"


class Published:
    """A message that came first."""

    __slots__ = ("at", "commit", "id", "sequence")

    def __init__(self, id: str, sequence: str, at: float) -> None:
        self.id = id
        self.sequence = sequence
        self.at = at
        self.commit: asyncio.Future[None] | None = None
        """While it is on its way into the store."""


class Duplicates:
    """Of one topic."""

    def __init__(self, cloud: Cloud, topic: Topic) -> None:
        self._store = cloud.store
        self._table = duplicates_table(topic.account, topic.region, topic.uid)
        self._known: dict[str, Published] = {}
        self._order: deque[tuple[float, str]] = deque()

    def find(self, key: str, now: float) -> Published | None:
        known = self._known.get(key)
        if known is None:
            row = self._store.get(self._table, key)
            if row is None:
                return None
            known = Published(row.value["m"], row.value["q"], row.value["at"])
        return known if known.at > now - INTERVAL_S else None

    def mark(self, key: str, published: Published) -> Change:
        """Take note; the change belongs into the message's transaction."""
        self._known[key] = published
        self._order.append((published.at, key))
        return Put(self._table, key, {"m": published.id, "q": published.sequence, "at": published.at})

    def lost(self, key: str, published: Published) -> None:
        """The transaction failed: nothing was published under this id."""
        if self._known.get(key) is published:
            del self._known[key]

    def forget(self, now: float) -> None:
        """What is older counts no more; its rows go, and nobody waits for that."""
        old: list[Change] = []
        while self._order and self._order[0][0] <= now - INTERVAL_S and len(old) < _REMOVED_AT_ONCE:
            at, key = self._order.popleft()
            known = self._known.get(key)
            if known is not None and known.at == at:
                del self._known[key]
                old.append(Delete(self._table, key))
        if old:
            self._store.submit(old)


def duplicates_table(account: str, region: str, uid: str) -> Table:
    return Table(account, region, DATA, f"{uid}!")


def duplicates_of(cloud: Cloud, topic: Topic) -> Duplicates:
    known: dict[str, Duplicates] = cloud.memory.setdefault(_MEMORY, {})
    found = known.get(topic.uid)
    if found is None:
        found = known[topic.uid] = Duplicates(cloud, topic)
    return found
