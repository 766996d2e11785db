"""Messages past their retention, and duplicates nobody asks for any more: removed every hour, wherever nobody receives.

A receive never gives such a message; this only makes room. A queue is looked at from its oldest message on, up to the first page
without one that is too old.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pilvi.services.sqs.duplicates import INTERVAL_MS
from pilvi.services.sqs.engine import Engine, engine_of
from pilvi.services.sqs.entry import Entry, deletion
from pilvi.services.sqs.queues import SERVICE, Queue
from pilvi.storage.records import Delete, Rows

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

PAGE: Final = 500


def run_retention(cloud: Cloud) -> None:
    """In a thread."""
    for table in cloud.store.tables(service=SERVICE, noun="Queue"):
        after = ""
        while rows := Rows(cloud.store, table).scan(after=after):
            for row in rows:
                if cloud.schedules.is_closing:
                    return
                queue = Queue(table, row.id, row.value, row.version)
                _expire(cloud, queue)
                if queue.is_fifo:
                    _forget(cloud, queue)
            after = rows[-1].id


def _expire(cloud: Cloud, queue: Queue) -> None:
    oldest = int(cloud.clock.time_s() * 1000) - queue.retention_ms
    after = ""
    while rows := cloud.store.scan(queue.messages, after=after, limit=PAGE):
        old = [Entry(int(row.id, 16), row.value, None) for row in rows if row.value["t"] < oldest]
        if not old:
            return
        for entry in old:
            entry.has_state = cloud.store.get(queue.states, entry.id) is not None
            cloud.store.submit(deletion(queue, entry))
        _tell(engine_of(cloud), queue, old)
        after = rows[-1].id


def _tell(engine: Engine, queue: Queue, old: list[Entry]) -> None:
    """What a queue at work has in memory of them goes, too; on its loop."""
    live = engine.lives.get(queue.data)
    if live is None or engine.loop is None:
        return

    def remove() -> None:
        for entry in old:
            live.removed(entry.seq)

    engine.loop.call_soon_threadsafe(remove)


def _forget(cloud: Cloud, queue: Queue) -> None:
    """Deduplication ids of an earlier server's."""
    oldest = int(cloud.clock.time_s() * 1000) - INTERVAL_MS
    after = ""
    while rows := cloud.store.scan(queue.duplicates, after=after, limit=PAGE):
        for row in rows:
            if row.value["at"] < oldest:
                cloud.store.submit([Delete(queue.duplicates, row.id, row.version)])
        after = rows[-1].id
