"""Rows and small bodies read lately, still encoded, so that a look-up of what is hot touches no database. Also knows what is absent.

Only for the one process that writes. The rule that keeps it true: a reader takes a ticket before it looks into the database and
may leave what it found only if no batch was committed since; the writer brings every committed batch in before it wakes those
who wait for it. So whoever was told that a write is done finds it here or in the database, never what was before.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

Stored = tuple[int, bytes]
"""Version and encoded value; version 0 is what is not there."""

ABSENT: Stored = (0, b"")
ROWS = 8192
ROW_BYTES = 4096
TOTAL_BYTES = 8 << 20

BODY_BYTES = 66 << 10
"""Of the larger ones among small bodies: reading 64 KiB out of a database costs four times what opening them does."""
BODIES_BYTES = 12 << 20


class RecordCache(Generic[K]):
    """Bounded by number and by bytes; the oldest go first."""

    def __init__(self, row_bytes: int = ROW_BYTES, total_bytes: int = TOTAL_BYTES) -> None:
        """row_bytes: of the longest that is kept. total_bytes: of all together."""
        self._row_bytes = row_bytes
        self._total_bytes = total_bytes
        self._lock = threading.Lock()
        self._rows: OrderedDict[K, Stored] = OrderedDict()
        self._bytes = 0
        self.find = self._rows.get
        """The row, or None when nothing is known of it."""
        self.ticket = 0

    def offer(self, key: K, stored: Stored, ticket: int) -> None:
        """What a reader found in the database after it took the ticket."""
        if len(stored[1]) > self._row_bytes:
            return
        with self._lock:
            if ticket != self.ticket or key in self._rows:
                return
            self._rows[key] = stored
            self._bytes += len(stored[1])
            while self._bytes > self._total_bytes or len(self._rows) > ROWS:
                _, (_, dropped) = self._rows.popitem(last=False)
                self._bytes -= len(dropped)

    def committed(self, rows: Mapping[K, Stored | None]) -> None:
        """What a batch has written (None: removed). Only what is known already is kept up to date."""
        with self._lock:
            self.ticket += 1
            for key, stored in rows.items():
                old = self._rows.get(key)
                if old is None:
                    continue
                new = stored or ABSENT
                if len(new[1]) > self._row_bytes:
                    del self._rows[key]
                    self._bytes -= len(old[1])
                else:
                    self._rows[key] = new
                    self._bytes += len(new[1]) - len(old[1])

    def forget(self, keys: Iterable[K]) -> None:
        """What a batch has changed, and nobody is expected to ask for soon."""
        with self._lock:
            self.ticket += 1
            for key in keys:
                if (old := self._rows.pop(key, None)) is not None:
                    self._bytes -= len(old[1])

    def clear(self) -> None:
        with self._lock:
            self.ticket += 1
            self._rows.clear()
            self._bytes = 0
