"""How far the product's clock is ahead of the real one: one row, so that a restart and every process of the server know it."""

from __future__ import annotations

from pilvi.core.errors import AlreadyExists, Conflict, Invalid
from pilvi.storage.records import Insert, Records, Table, Update

SERVICE = "clock"
TABLE = Table("", "", SERVICE, "Offset")
ROW = "product"

MOST_S = 200 * 365 * 86_400.0
"""Two hundred years: dates of the wire end in 9999, sequences of versions in 64 bits."""


def read_offset(store: Records) -> float:
    row = store.get(TABLE, ROW)
    return 0.0 if row is None else float(row.value["ahead_s"])


def move(store: Records, by_s: float) -> float:
    """Move it forward, durably; the new offset. Invalid for what goes back, or beyond two hundred years."""
    if by_s < 0:
        raise Invalid("The clock only moves forward.")
    while True:
        row = store.get(TABLE, ROW)
        ahead = (0.0 if row is None else float(row.value["ahead_s"])) + by_s
        if ahead > MOST_S:
            raise Invalid("The clock moves at most two hundred years ahead.")
        value = {"ahead_s": ahead}
        try:
            store.write(Insert(TABLE, ROW, value) if row is None else Update(TABLE, ROW, value, row.version))
        except (AlreadyExists, Conflict):
            continue
        return ahead


class Follower:
    """The offset as other processes move it: read again only when its table has changed."""

    def __init__(self, store: Records) -> None:
        self._store = store
        self._seen = -1
        self._ahead_s = 0.0

    def __call__(self) -> float:
        generation = self._store.generation(SERVICE)
        if generation != self._seen:
            self._ahead_s = read_offset(self._store)
            self._seen = generation
        return self._ahead_s
