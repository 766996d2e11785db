"""Polled sources: batches are taken from where records wait, and given to whoever handles them.

    source.receive -> patterns (what does not fit is removed) -> a batch: full, or its window over -> handle -> source.remove what succeeded

Event source mappings and pipes stand on it. A `Source` is a queue now (queue_source.py); a shard of a stream is one too: `remove` moves its
position, and its `most_at_once` is what may be handled side by side. What a batch failed on is not removed: it comes back as its source has
it, so nothing has to be kept here, and a server that is killed loses nothing.

A record that arrives is handled at once: the source is asked with a long poll. Batches are handled side by side: FIRST of them, and
GROWTH more for each second in which all of these were busy, to the most that is set. Runs on the server's event loop.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from pilvi.core.errors import PilviError
from pilvi.events.patterns import Pattern

log = logging.getLogger("pilvi.events")

POLL_S: Final = 20.0
"""One long poll."""
BATCH_BYTES: Final = 6 << 20
"""Source: Lambda developer guide, "Batching behavior": an invocation's payload."""
FIRST: Final = 5
GROWTH: Final = 5
"""Source: Lambda developer guide, "Configuring scaling behavior for SQS event source mappings": five at first, 300 more a minute."""
GROWTH_S: Final = 1.0
PAUSE_S: Final = (1.0, 60.0)
"""Before a source that refused is asked again: the first time, and the longest."""
BUSY_S: Final = (0.1, 5.0)
"""Before whoever had no room is given a batch again."""


class Record(NamedTuple):
    """One thing that a source had."""

    event: dict[str, Any]
    """As AWS's events show it."""
    handle: str
    """By what its source knows it."""
    size: int
    """Bytes it adds to a payload, about."""


class Source(Protocol):
    """Where records wait. Methods raise PilviError when the source refuses."""

    most: int
    """Records that one call gives."""
    most_at_once: int
    """Batches that may be handled side by side, whatever else is set."""

    async def receive(self, many: int, wait_s: float) -> list[Record]:
        """The next records, out of everybody else's sight; waits for the first. May be cancelled while it waits."""

    async def remove(self, records: Sequence[Record]) -> None:
        """They are dealt with."""

    def held_s(self) -> float:
        """For how long a record that was received stays out of sight."""


class Busy(PilviError):
    """Raised by a handler that has no room: it is given the same batch again, as long as the source holds it."""


@dataclass(frozen=True, slots=True)
class Settings:
    batch_size: int = 10
    window_s: float = 0.0
    """How long a batch that has its first record waits to be full."""
    patterns: tuple[Pattern, ...] = ()
    """A record fits when one of them does; none: all fit."""
    most_at_once: int = 1000


@dataclass(slots=True)
class Counts:
    """Records since somebody looked last."""

    polled: int = 0
    filtered: int = 0
    handled: int = 0
    failed: int = 0
    removed: int = 0


Handle = Callable[[Sequence[Record]], Awaitable[Sequence[Record]]]
"""Handles a batch and says on which records it failed; raising says all of them."""


class Poller:
    """One source and whoever handles its records. `start` and `stop` on the event loop."""

    def __init__(
        self, source: Source, settings: Settings, handle: Handle, told: Callable[[PilviError | None], None] = lambda _: None
    ) -> None:
        """told: hears None when a batch was handled, and what went wrong with the source or the batch otherwise."""
        self.source = source
        self.settings = settings
        self.counts = Counts()
        self._handle = handle
        self._told = told
        self._loop = asyncio.get_running_loop()
        self._running: set[asyncio.Task[None]] = set()
        self._limit = min(FIRST, self._most)
        self._busy = 0
        """Batches whose handler has no room."""
        self._change = asyncio.Event()
        self._ending = asyncio.Event()
        self._carried: list[Record] = []
        """Received, but too large for the batch before."""
        self._task: asyncio.Task[None] | None = None

    @property
    def _most(self) -> int:
        return max(1, min(self.settings.most_at_once, self.source.most_at_once))

    # -- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._task = self._loop.create_task(self._run())

    async def stop(self) -> None:
        """No further record is received; returns when every batch under way has been dealt with."""
        self._ending.set()
        self._change.set()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        while self._running:
            await asyncio.gather(*self._running, return_exceptions=True)

    def kill(self) -> None:
        """The server stops: what is under way comes back after the next start."""
        self._ending.set()
        for task in (self._task, *self._running):
            if task is not None:
                task.cancel()

    async def _run(self) -> None:
        pause_s = PAUSE_S[0]
        while not self._ending.is_set():
            await self._room()
            if self._ending.is_set():
                return
            began_s = self._loop.time()
            try:
                batch = await self._gather()
            except PilviError as error:
                self._told(error)
                await self._rest(pause_s)
                pause_s = min(pause_s * 2, PAUSE_S[1])
                continue
            except Exception:  # whatever a source fails with, it is asked again
                log.exception("a source could not be read")
                await self._rest(pause_s)
                pause_s = min(pause_s * 2, PAUSE_S[1])
                continue
            pause_s = PAUSE_S[0]
            if batch:
                task = self._loop.create_task(self._work(batch, began_s + self.source.held_s()))
                self._running.add(task)
                task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._change.set()

    async def _room(self) -> None:
        """Until one more batch may be begun."""
        since_s = self._loop.time()
        while (len(self._running) >= self._limit or self._busy) and not self._ending.is_set():
            self._change.clear()
            try:
                async with asyncio.timeout(GROWTH_S):
                    await self._change.wait()
            except TimeoutError:
                pass
            if self._loop.time() - since_s >= GROWTH_S and not self._busy:
                self._limit = min(self._limit + GROWTH, self._most)
                since_s = self._loop.time()

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._ending.wait()
        except TimeoutError:
            return

    # -- a batch ------------------------------------------------------------------------------------------------------

    async def _gather(self) -> list[Record]:
        """The next batch; empty when there was nothing for a while."""
        settings = self.settings
        batch, self._carried = self._carried, []
        size = sum(record.size for record in batch)
        until = self._loop.time() + settings.window_s if batch else None
        while len(batch) < settings.batch_size and not self._carried and not self._ending.is_set():
            wait_s = POLL_S if until is None else until - self._loop.time()
            if wait_s <= 0 and batch:
                break
            found = await self._receive(min(settings.batch_size - len(batch), self.source.most), max(0.0, wait_s))
            for record in await self._fitting(found):
                if self._carried or (batch and size + record.size > BATCH_BYTES):
                    self._carried.append(record)
                    continue
                batch.append(record)
                size += record.size
            if until is None:
                if not found:
                    self._limit = min(FIRST, self._most)
                    break
                until = self._loop.time() + settings.window_s if batch else None
        return batch

    async def _receive(self, many: int, wait_s: float) -> list[Record]:
        """Ask the source, at most so long, and not beyond the end."""
        asked = self._loop.create_task(self.source.receive(many, wait_s))
        ending = self._loop.create_task(self._ending.wait())
        try:
            await asyncio.wait({asked, ending}, timeout=wait_s + 0.05, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending.cancel()
            if not asked.done():
                asked.cancel()
        try:
            found = await asked
        except asyncio.CancelledError:
            if (current := asyncio.current_task()) is not None and current.cancelling():
                raise
            return []
        self.counts.polled += len(found)
        return found

    async def _fitting(self, found: Sequence[Record]) -> list[Record]:
        """Those that a pattern lets through; the others are removed at once."""
        if not self.settings.patterns:
            return list(found)
        kept: list[Record] = []
        others: list[Record] = []
        for record in found:
            (kept if fits(self.settings.patterns, record.event) else others).append(record)
        if others:
            self.counts.filtered += len(others)
            await self._remove(others)
        return kept

    async def _work(self, batch: list[Record], until_s: float) -> None:
        """Have a batch handled, and remove what was."""
        try:
            failed = await self._handled(batch, until_s)
        except PilviError as error:
            self._told(error)
            self.counts.failed += len(batch)
            return
        except Exception:  # whatever a handler fails with, the records stay
            log.exception("a batch could not be handled")
            self.counts.failed += len(batch)
            return
        handles = {record.handle for record in failed}
        good = [record for record in batch if record.handle not in handles]
        self.counts.handled += len(good)
        self.counts.failed += len(handles)
        if good:
            await self._remove(good)

    async def _handled(self, batch: list[Record], until_s: float) -> Sequence[Record]:
        """Give it to the handler, again and again while that has no room and the records are still ours."""
        pause_s = BUSY_S[0]
        is_busy = False
        try:
            while True:
                try:
                    failed = await self._handle(batch)
                except Busy as error:
                    if not is_busy:
                        is_busy = True
                        self._busy += 1
                    if self._loop.time() + pause_s >= until_s or self._ending.is_set():
                        raise
                    self._told(error)
                    await self._rest(pause_s)
                    pause_s = min(pause_s * 2, BUSY_S[1])
                    continue
                self._told(None)
                return failed
        finally:
            if is_busy:
                self._busy -= 1
                self._change.set()

    async def _remove(self, records: Sequence[Record]) -> None:
        try:
            await self.source.remove(records)
            self.counts.removed += len(records)
        except PilviError as error:
            self._told(error)


def fits(patterns: Sequence[Pattern], event: dict[str, Any]) -> bool:
    """Whether one of the patterns lets a record through. Its body or data is looked into where it is a JSON object.

    Source: Lambda developer guide, "Control which events Lambda sends to your function": a plain pattern fits no JSON body, nor the other
    way round.
    """
    body = event.get("body")
    if isinstance(body, str) and body.lstrip()[:1] in ("{", "["):
        with suppress(ValueError):
            event = {**event, "body": json.loads(body)}
    return any(pattern.matches(event) for pattern in patterns)
