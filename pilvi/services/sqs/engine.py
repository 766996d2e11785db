"""All queues at work in this server: opened at their first use, written behind, counted, swept when they are gone.

Durable before the answer: messages sent, deleted, moved to a dead-letter queue; settings, purges. Written behind, at most WRITES_S
later: how often and when a message was received, and until when it is invisible. A server that is killed in that time gives such a
message again too early, and counts one receive less; it never loses one. Messages that are deleted before cost nothing of this.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

from pilvi.core.errors import PilviError
from pilvi.services.sqs.duplicates import Duplicates
from pilvi.services.sqs.entry import id_of
from pilvi.services.sqs.live import Budget, Live
from pilvi.services.sqs.queues import DATA, Queue
from pilvi.storage.records import Change, Delete, DeleteBody, Put, Table

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

log = logging.getLogger("pilvi.sqs")

WRITES_S: Final = 1.0
MOST_LIVE: Final = 2000
HELD_BYTES: Final = 64 << 20
"""Of all queues' messages together that are kept open in memory."""
TRASH: Final = Table("", "", "sqsjobs", "Trash")
"""Names of message tables that nobody needs any more."""
SWEPT_AT_ONCE: Final = 500
CLOSING_S: Final = 5.0
COUNTED_AT_ONCE: Final = 1000
_MEMORY: Final = "sqs:engine"


class Engine:
    """Of one server."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.lives: dict[str, Live] = {}
        self.duplicates: dict[str, Duplicates] = {}
        """Of FIFO queues, by uid."""
        self.budget = Budget(HELD_BYTES)
        self.loop: asyncio.AbstractEventLoop | None = None
        """Where the queues are at work, once one is."""
        self.tasks: set[asyncio.Task[Any]] = set()
        self.is_closing = False
        """The server stops: nobody waits any more."""
        self._timer: asyncio.TimerHandle | None = None
        self._sweeping: set[str] = set()

    def now(self) -> int:
        """Milliseconds of the product's clock."""
        return int(self.cloud.clock.time_s() * 1000)

    def live(self, queue: Queue) -> Live:
        """A queue's messages; its first page is read when it was not at work."""
        live = self.lives.get(queue.data)
        if live is None:
            self.loop = asyncio.get_running_loop()
            if len(self.lives) >= MOST_LIVE:
                self._forget_idle()
            live = self.lives[queue.data] = Live(self.cloud.store, queue, self.budget)
            live.load(self.now())
            if not live.is_counted:
                live.counted_to, live.total = live.loaded_to, len(live.entries)
                self.start(self._count(live))
        live.queue = queue
        return live

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("work of a queue failed", exc_info=error)

    def close(self, queue: Queue) -> None:
        """A queue was purged or deleted: who waits looks again."""
        live = self.lives.pop(queue.data, None)
        if live is not None:
            live.close()

    def _forget_idle(self) -> None:
        for data, live in list(self.lives.items()):
            if not (live.dirty or live.sending or live.is_awaited or live.flying):
                live.close()
                del self.lives[data]
            if len(self.lives) < MOST_LIVE // 2:
                return

    # -- written behind -------------------------------------------------------------------------------------------------

    def write_soon(self) -> None:
        """Something was received: write it down in a while."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WRITES_S, self._write)

    def _write(self) -> None:
        self._timer = None
        changes = self.states()
        for start in range(0, len(changes), SWEPT_AT_ONCE):
            self.cloud.store.submit(changes[start : start + SWEPT_AT_ONCE])

    def states(self) -> list[Change]:
        """What became of messages that are still there, since the last time."""
        changes: list[Change] = []
        for live in self.lives.values():
            if not live.dirty:
                continue
            for seq in live.dirty:
                if (entry := live.entries.get(seq)) is not None:
                    entry.has_state = True
                    changes.append(Put(live.queue.states, id_of(seq), entry.state()))
            live.dirty.clear()
        return changes

    def last_states(self) -> list[Change]:
        for live in self.lives.values():
            live.wake_all()
        return self.states()

    # -- counting and sweeping ---------------------------------------------------------------------------------------------

    async def _count(self, live: Live) -> None:
        """How many messages an earlier server had left; nobody waits for it."""
        store, table = self.cloud.store, live.queue.messages
        while not live.is_counted:
            rows = await asyncio.to_thread(
                store.scan, table, after=id_of(live.counted_to), before=id_of(live.bound + 1), limit=COUNTED_AT_ONCE
            )
            if live.is_counted:
                return
            live.total += len(rows)
            if rows:
                live.counted_to = int(rows[-1].id, 16)
            live.is_counted = len(rows) < COUNTED_AT_ONCE

    def sweep_soon(self, name: str) -> None:
        if name not in self._sweeping:
            self._sweeping.add(name)
            self.start(self._sweep(name))

    async def _sweep(self, name: str) -> None:
        """Remove all rows of the message tables of a name, with their bodies, and then the note about it."""
        row = self.cloud.store.get(TRASH, name)
        if row is None:
            return
        account, region = row.value["account"], row.value["region"]
        try:
            await asyncio.sleep(WRITES_S)  # what is on its way into the store arrives first
            for noun in row.value["nouns"]:
                await self._empty(Table(account, region, DATA, noun))
            await self.cloud.store.commit([Delete(TRASH, name)])
        except PilviError as error:
            log.warning("messages of %s could not be swept: %s", name, error)
        finally:
            self._sweeping.discard(name)

    async def _empty(self, table: Table) -> None:
        store = self.cloud.store
        while rows := store.scan(table, limit=SWEPT_AT_ONCE):
            changes: list[Change] = [Delete(table, row.id) for row in rows]
            changes += [DeleteBody(row.value["b"]) for row in rows if "b" in row.value]
            await store.commit(changes)


def trash(queue: Queue, *, whole: bool) -> Change:
    """The note that a queue's messages (whole: and what it knows of duplicates) may go."""
    nouns = [queue.data, queue.data + "~", *([queue.uid + "!"] if whole else [])]
    return Put(TRASH, queue.data, {"account": queue.account, "region": queue.region, "nouns": nouns})


def engine_of(cloud: Cloud) -> Engine:
    engine: Engine | None = cloud.memory.get(_MEMORY)
    if engine is None:
        engine = cloud.memory.setdefault(_MEMORY, Engine(cloud))
    return engine


def write_down(cloud: Cloud) -> None:
    """The server stops: who waits is answered, and what was not written yet is."""
    engine: Engine | None = cloud.memory.get(_MEMORY)
    if engine is None or engine.loop is None:
        return
    engine.is_closing = True
    done: Future[list[Change]] = Future()
    engine.loop.call_soon_threadsafe(lambda: done.set_result(engine.last_states()))
    if changes := done.result(CLOSING_S):
        cloud.store.write(*changes)
