"""One lane at work: its entries to the consumer, oldest first, in order per key, some keys at a time.

Where all that is oldest waits for its time, or belongs to a few keys, what lies behind it is looked at too, however far: a lane in
which a hundred thousand entries are postponed still delivers the next one. Such a long lane is walked through as a whole only now
and then (in one twentieth of the time), and else from where nothing old can be; a retry may come later there by as much.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Final

from pilvi.core.clock import Clock
from pilvi.core.errors import Unavailable
from pilvi.events import Consumer, Entry, GiveUp, Log, Patience

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

log = logging.getLogger("pilvi.events")

WINDOW: Final = 500
"""Entries of a lane read together."""
WINDOWS: Final = 20
"""So many in one look."""
LONG: Final = 10_000
"""Entries passed beyond which a lane is long."""
REST: Final = 20
"""A long lane is walked through again after so many times what it took."""
SLOW_COMMIT_S: Final = 60.0
"""An entry is committed at most so long after it was recorded; a slower one is found by a walk through the whole lane."""
CROWDED: Final = 250
"""Keys of a lane in memory beyond which no more are read."""
BROKEN_S: Final = 30.0
"""A log that fails with something unheard of is left alone for so long."""
LOOK_S: Final = 1.0
"""How often what became due is looked for: the product's clock may have been moved."""


class Walk:
    """A look through a lane: how far it got, and what it left behind."""

    __slots__ = ("after", "began_s", "begun", "held", "is_whole", "seen", "wait_s")

    def __init__(self, after: str, began_s: float, *, is_whole: bool) -> None:
        self.after = after
        self.began_s = began_s
        self.is_whole = is_whole
        self.held: set[str] = set()
        """Keys that must wait."""
        self.begun: set[str] = set()
        """Keys that were in work when they were passed: what is further back of them stays where it is even when they have just
        come to their end, as something before it may have been postponed."""
        self.seen = 0
        self.wait_s = LOOK_S
        """For so long nothing of what was passed is due."""


class Old:
    """The front of a long lane: everything up to `after` was walked past; of these keys something may be left there."""

    __slots__ = ("after", "keys")

    def __init__(self, after: str, keys: set[str]) -> None:
        self.after = after
        self.keys = keys


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
        self._loop = asyncio.get_running_loop()
        self._walk: Walk | None = None
        """To be gone on with."""
        self._old: Old | None = None
        self._rested_s = 0.0
        """A long lane is walked through again then."""
        self._finished: set[str] = set()
        """Keys that have come to an end since the last reading began."""
        self._passed: set[str] = set()
        """Keys in work that have further entries in the log."""
        self.news = asyncio.Event()
        """Something was committed, or a key is free again."""
        self.is_resting = False
        """Everything there is waits for its time."""
        self.task = self._loop.create_task(self._run())

    def look_again(self) -> None:
        """The clock was moved: anything may be due."""
        self._rested_s = 0.0
        self._walk = None
        self.is_resting = False
        self.news.set()

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
                self.is_resting = not self._keys and self._walk is None
                await self._wait(wait_s)
        finally:
            running = list(self._keys.values())
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _look(self) -> tuple[bool, float]:
        """Begin with what can be begun; gives whether the lane is empty, and for how long nothing else is due.

        A look is a walk from the oldest entry on; one that finds enough to do, or nothing in LONG entries, is gone on with at the
        next look.
        """
        walk = self._walk or self._new_walk()
        self._walk = None
        for _ in range(WINDOWS):
            begun_s = self._loop.time()
            try:
                entries = await self._read(walk)
            except Unavailable as error:
                log.debug("events: %s", error.message)
                await asyncio.sleep(LOOK_S)
                return False, LOOK_S
            except Exception:  # whatever a log fails with, the lane is looked at again
                log.exception("events: %s in %s could not be read", self._consumer.name, self._lane)
                await asyncio.sleep(BROKEN_S)
                return False, LOOK_S
            self._start(entries, walk)
            if len(entries) < WINDOW:
                return self._at_end(walk, entries), walk.wait_s
            self._pass(entries, walk)
            if len(self._keys) >= self._consumer.parallel:
                self._walk = walk if walk.seen >= LONG else None
                return False, walk.wait_s
            await asyncio.sleep(self._loop.time() - begun_s if walk.seen >= LONG else 0)
        self._walk = walk
        return False, 0.0

    async def _read(self, walk: Walk) -> list[Entry]:
        """The next window. Where reading takes a while, keys may come to their end meanwhile: what was read of them is out of date."""
        self._finished.clear()
        if not self._log.is_remote:
            return self._log.read(self._consumer.name, self._lane, WINDOW, walk.after)
        entries = await asyncio.to_thread(self._log.read, self._consumer.name, self._lane, WINDOW, walk.after)
        walk.begun |= self._finished
        return entries

    def _new_walk(self) -> Walk:
        """Through the whole lane; where that is long and was done lately, through what came since."""
        if self._old is not None and self._loop.time() < self._rested_s:
            return Walk(self._old.after, self._loop.time(), is_whole=False)
        self._old = None
        return Walk("", self._loop.time(), is_whole=True)

    def _pass(self, entries: list[Entry], walk: Walk) -> None:
        """Go on behind a window. What was recorded a while ago need not be looked at for news: nothing slips in among it any more."""
        walk.after = entries[-1].id
        walk.seen += len(entries)
        if entries[-1].at <= self._clock.time_s() - SLOW_COMMIT_S:
            if self._old is None:
                self._old = Old("", set())
            self._old.after = walk.after
            self._old.keys.update(entry.key for entry in entries)

    def _at_end(self, walk: Walk, entries: list[Entry]) -> bool:
        """The end of the lane: whether it is empty. A long one is not walked through again at once."""
        if walk.is_whole:
            took_s = self._loop.time() - walk.began_s
            self._rested_s = self._loop.time() + REST * took_s if walk.seen >= LONG else 0.0
            if walk.seen < LONG:
                self._old = None
        return walk.is_whole and not walk.seen and not entries

    def _start(self, entries: list[Entry], walk: Walk) -> None:
        """Begin with every key whose turn it is."""
        now = self._clock.time_s()
        known: AbstractSet[str] = frozenset() if walk.is_whole or self._old is None else self._old.keys
        chains: dict[str, list[Entry]] = {}
        for entry in entries:
            if entry.key in self._keys:
                self._passed.add(entry.key)
                walk.begun.add(entry.key)
            elif entry.key in walk.begun:
                self.news.set()
            elif entry.key not in walk.held and entry.key not in known:
                chains.setdefault(entry.key, []).append(entry)
        for key, chain in chains.items():
            if (early_s := chain[0].due - now) > 0:
                walk.wait_s = min(walk.wait_s, early_s)
                walk.held.add(key)
                continue
            walk.begun.add(key)
            self._keys[key] = self._loop.create_task(self._deliver(key, chain))

    async def _wait(self, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self.news.wait()
        except TimeoutError:
            return

    async def _deliver(self, key: str, chain: list[Entry]) -> None:
        is_through = False
        try:
            async with self._places:
                for entry in chain:
                    if not await self._attempt(entry):
                        break
                else:
                    is_through = True
        except Unavailable as error:
            log.warning("events: %s", error.message)
        finally:
            del self._keys[key]
            self._finished.add(key)
            if is_through and self._old is not None and key not in self._passed:
                self._old.keys.discard(key)
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
            return await self._decide(entry, error)
        await self._log.done(consumer.name, entry)
        return True

    async def _decide(self, entry: Entry, error: Exception) -> bool:
        """The consumer says what comes of a failure, where it has a mind of its own about that."""
        reason = f"{type(error).__name__}: {error}"
        if self._consumer.failed is None:
            return await self._failed(entry, reason)
        try:
            wait_s = await self._consumer.failed(self._cloud, entry, error)
        except Exception as another:  # noqa: BLE001 - as with the attempt itself
            return await self._failed(entry, f"{type(another).__name__}: {another}")
        if wait_s is None:
            await self._log.done(self._consumer.name, entry)
            return True
        await self._log.postpone(self._consumer.name, entry, self._clock.time_s() + wait_s, reason)
        return False

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
