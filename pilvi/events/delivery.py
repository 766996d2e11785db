"""Delivery: entries of the log to their consumers, at least once, in order per key, each lane by itself.

    wake(consumer, lane) -> a task for the lane, while it holds entries
        read a window -> one chain of entries a key, some keys at a time -> take -> done, or postponed, or buried

A key whose entry was postponed waits with all its later entries; other keys go on. A lane that is stuck holds up no other lane
(lane.py).
Runs on the server's event loop; consumers are coroutines, and what blocks they hand to threads themselves.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from pilvi.core.clock import Clock
from pilvi.core.errors import Unavailable
from pilvi.events import Consumer, Entry, Fact, Find, Log
from pilvi.events.lane import LOOK_S, LaneWork
from pilvi.events.lease import Lease
from pilvi.storage.records import Change

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

log = logging.getLogger("pilvi.events")

Lane = tuple[str, str]


class Delivery:
    """All consumers of one server. `start` and `stop` on its event loop."""

    def __init__(self, log_: Log, clock: Clock, find: Find, lease: Lease | None = None) -> None:
        """lease: None where this server has the store for itself."""
        self.log = log_
        self._clock = clock
        self._find = find
        self._lease = lease
        self._consumers: dict[str, Consumer | None] = {}
        self._lanes: dict[Lane, LaneWork] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._cloud: Cloud
        self._main: asyncio.Task[None] | None = None
        self._asked = asyncio.Event()

    def recording(self, consumer: str, lane: str, key: str, fact: Fact) -> Change:
        return self.log.recording(consumer, lane, key, fact)

    def wake(self, consumer: str, lane: str) -> None:
        loop = self._loop
        if loop is None:
            return  # whoever starts later looks round
        try:
            loop.call_soon_threadsafe(self._attend, (consumer, lane))
        except RuntimeError:
            log.debug("the server is closing; %s in %s waits for the next start", consumer, lane)

    def waiting(self, consumer: str, lane: str, limit: int) -> list[Entry]:
        return self.log.read(consumer, lane, limit)

    # -- life -------------------------------------------------------------------------------------------------------

    def start(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._loop = asyncio.get_running_loop()
        self.log.start()
        self._main = self._loop.create_task(self._go_round())

    async def stop(self) -> None:
        """End what is being delivered; it is delivered again after the next start."""
        self._loop = None
        tasks = [work.task for work in self._lanes.values()]
        if self._main is not None:
            tasks.append(self._main)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._lanes.clear()
        if self._lease is not None:
            await self._lease.release()

    async def _go_round(self) -> None:
        """Begin with what an earlier server left. Where others write the same store, look again and again, and only as its one deliverer."""
        has_looked = False
        while True:
            try:
                await self._look_round()
                has_looked = True
            except Unavailable as error:
                log.warning("events: %s", error.message)
            if self._lease is None and has_looked:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._asked.wait()
            self._asked.clear()

    async def _look_round(self) -> None:
        found = [
            (consumer, lane)
            for consumer in await asyncio.to_thread(self.log.consumers)
            for lane in await asyncio.to_thread(self.log.lanes, consumer)
        ]
        if self._lease is not None:
            if not found:
                return
            if not await self._lease.hold():
                self._abandon()
                return
        for lane in found:
            self._begin(lane)

    def _attend(self, lane: Lane) -> None:
        """Something was committed to a lane."""
        if self._loop is None:
            return
        if self._lease is None or self._lease.is_held:
            self._begin(lane)
        else:
            self._asked.set()  # the store has one deliverer: look round who it is

    def _begin(self, lane: Lane) -> None:
        work = self._lanes.get(lane)
        if work is not None and not work.task.done():
            work.news.set()
            return
        consumer = self._consumer(lane[0])
        if consumer is not None:
            self._lanes[lane] = LaneWork(self.log, self._clock, self._cloud, consumer, lane[1], lambda: self._lanes.pop(lane, None))

    def _abandon(self) -> None:
        for work in self._lanes.values():
            work.task.cancel()
        self._lanes.clear()

    def _consumer(self, name: str) -> Consumer | None:
        if name not in self._consumers:
            found = {consumer.name: consumer for consumer in self._find(name.partition("/")[0])}
            if name not in found:
                log.warning("events: nobody is %s; what lies there stays", name)
            self._consumers[name] = found.get(name)
        return self._consumers[name]

    # -- for those who wait ---------------------------------------------------------------------------------------

    async def settle(self, within_s: float) -> bool:
        """Wait until nothing that is due is left; False when that takes longer. The clock may just have been moved."""
        for work in self._lanes.values():
            work.look_again()
        try:
            async with asyncio.timeout(within_s):
                while self._is_busy():
                    await asyncio.sleep(0.01)
        except TimeoutError:
            return False
        return True

    def _is_busy(self) -> bool:
        return any(not work.is_resting for work in self._lanes.values())
