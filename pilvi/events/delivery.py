"""Delivery: entries of the log to their consumers, at least once, in order per key, each lane by itself.

    wake(consumer, lane) -> a task for the lane, while it holds entries
        read a window -> one chain of entries a key, some keys at a time -> take -> done, or postponed, or buried

A key whose entry was postponed waits with all its later entries; other keys go on. A lane that is stuck holds up no other lane.
Runs on the server's event loop; consumers are coroutines, and what blocks they hand to threads themselves.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from pilvi.core.clock import Clock
from pilvi.core.errors import Unavailable
from pilvi.events import Consumer, Entry, Fact, Find, GiveUp, Log, Patience
from pilvi.events.lease import Lease
from pilvi.storage.records import Change

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

log = logging.getLogger("pilvi.events")

WINDOW = 500
"""Entries of a lane looked at together."""
WINDOWS = 20
"""So many times further, where nothing in the first windows is due."""
CROWDED = 250
"""Keys of a lane in memory beyond which no more are read."""
LOOK_S = 1.0
"""How often what became due is looked for: the product's clock may have been moved."""

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
        while True:
            try:
                await self._look_round()
            except Unavailable as error:
                log.warning("events: %s", error.message)
            if self._lease is None:
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
            work.is_resting = False
            work.news.set()
        try:
            async with asyncio.timeout(within_s):
                while self._is_busy():
                    await asyncio.sleep(0.01)
        except TimeoutError:
            return False
        return True

    def _is_busy(self) -> bool:
        return any(not work.is_resting for work in self._lanes.values())


class LaneWork:
    """One lane while it holds entries."""

    def __init__(self, log_: Log, clock: Clock, cloud: Cloud, consumer: Consumer, lane: str, ended: Callable[[], object]) -> None:
        self._log = log_
        self._clock = clock
        self._cloud = cloud
        self._consumer = consumer
        self._lane = lane
        self._ended = ended
        self._places = asyncio.Semaphore(consumer.parallel)
        self._keys: dict[str, asyncio.Task[None]] = {}
        self._passed: set[str] = set()
        """Keys in work that have further entries in the log."""
        self.news = asyncio.Event()
        """Something was committed, or a key is free again."""
        self.is_resting = False
        """Everything there is waits for its time."""
        self.task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            while True:
                self.news.clear()
                self.is_resting = False
                is_empty, wait_s = await self._look() if len(self._keys) < CROWDED else (False, LOOK_S)
                if is_empty and not self._keys:
                    if self.news.is_set():
                        continue
                    self._ended()
                    return
                self.is_resting = not self._keys
                await self._wait(wait_s)
        finally:
            running = list(self._keys.values())
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _look(self) -> tuple[bool, float]:
        """Begin with what can be begun; gives whether the lane is empty, and for how long nothing else is due.

        Where all that is oldest waits for its time, or belongs to a few keys, what lies behind it is looked at too.
        """
        wait_s, after = LOOK_S, ""
        held: set[str] = set()
        begun: set[str] = set()
        for _ in range(WINDOWS):
            try:
                entries = self._log.read(self._consumer.name, self._lane, WINDOW, after)
            except Unavailable:
                await asyncio.sleep(LOOK_S)
                return False, LOOK_S
            wait_s = min(wait_s, self._start(entries, held, begun))
            if len(self._keys) >= self._consumer.parallel or len(entries) < WINDOW:
                return not entries and not after, wait_s
            after = entries[-1].id
            await asyncio.sleep(0)
        return False, wait_s

    def _start(self, entries: list[Entry], held: set[str], begun: set[str]) -> float:
        """Begin with every key whose turn it is. Gives for how long nothing else is due.

        held gathers keys that must wait; begun those that were in work when this look round passed them: what is further back of
        them stays where it is even when they have just come to their end, as something before it may have been postponed.
        """
        now = self._clock.time_s()
        wait_s = LOOK_S
        chains: dict[str, list[Entry]] = {}
        for entry in entries:
            if entry.key in self._keys:
                self._passed.add(entry.key)
                begun.add(entry.key)
            elif entry.key in begun:
                self.news.set()
            elif entry.key not in held:
                chains.setdefault(entry.key, []).append(entry)
        for key, chain in chains.items():
            if (early_s := chain[0].due - now) > 0:
                wait_s = min(wait_s, early_s)
                held.add(key)
                continue
            begun.add(key)
            self._keys[key] = asyncio.get_running_loop().create_task(self._deliver(key, chain))
        return wait_s

    async def _wait(self, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self.news.wait()
        except TimeoutError:
            return

    async def _deliver(self, key: str, chain: list[Entry]) -> None:
        try:
            async with self._places:
                for entry in chain:
                    if not await self._attempt(entry):
                        break
        except Unavailable as error:
            log.warning("events: %s", error.message)
        finally:
            del self._keys[key]
            if not self._keys or key in self._passed:
                self._passed.discard(key)
                self.news.set()

    async def _attempt(self, entry: Entry) -> bool:
        """Whether the next entry of the key may follow."""
        consumer = self._consumer
        try:
            async with asyncio.timeout(consumer.timeout_s):
                await consumer.take(self._cloud, entry.fact)
        except GiveUp as error:
            await self._bury(entry, error.message)
            return True
        except Exception as error:  # noqa: BLE001 - whatever a consumer fails with, it is asked again and the others go on
            log.info("events: %s failed on %s: %r", consumer.name, entry.key, error)
            return await self._failed(entry, f"{type(error).__name__}: {error}")
        await self._log.done(consumer.name, entry)
        return True

    async def _failed(self, entry: Entry, reason: str) -> bool:
        patience = self._consumer.patience
        now = self._clock.time_s()
        if entry.tries + 1 >= patience.attempts or now - entry.at > patience.age_s:
            await self._bury(entry, reason)
            return True
        await self._log.postpone(self._consumer.name, entry, now + delay_s(patience, entry), reason)
        return False

    async def _bury(self, entry: Entry, reason: str) -> None:
        if self._consumer.gave_up is not None:
            try:
                await self._consumer.gave_up(self._cloud, entry.fact, reason)
            except Exception:  # the letter must not be lost for it
                log.exception("events: %s could not be told that %s was given up", self._consumer.name, entry.key)
        log.warning("events: %s gave up on %s after %d attempts: %s", self._consumer.name, entry.key, entry.tries + 1, reason)
        await self._log.bury(self._consumer.name, entry, reason)


def delay_s(patience: Patience, entry: Entry) -> float:
    """How long to wait after an attempt: doubling, spread by a quarter so that many do not come back together."""
    base = min(patience.first_s * 2.0 ** min(entry.tries, 30), patience.most_s)
    spread = zlib.crc32(f"{entry.id}{entry.tries}".encode()) / 0xFFFFFFFF
    return base * (0.875 + spread / 4)
