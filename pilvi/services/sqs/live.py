"""A queue at work: which message is next, which are in flight, who waits. On the event loop only.

The store holds every message in the order of its arrival; this is a window on it. What is in memory: the next messages to be
received (at most WINDOW), those in flight or delayed that the window has passed, nothing else. Below the window lies what the store
alone knows (`is_behind`), read on in pages when the window runs empty: never searched, so a long queue costs what a short one does.

    arrived / load --> ready (a FIFO queue: one line for each group) -- take --> in flight -- deleted | time runs out --> ready
                       delayed ----------------------- time comes ------------------------------------------------------> ready

Rows are committed before `arrived` is called, and removed before `removed`; a server that is killed finds in the store what it had
acknowledged. What `receive` does to a message (count, invisible until) is written behind: engine.py.
"""

from __future__ import annotations

import asyncio
from collections import deque
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

from pilvi.services.sqs.attempts import Attempts
from pilvi.services.sqs.entry import Entry, id_of
from pilvi.services.sqs.figures import Figures
from pilvi.services.sqs.queues import Queue
from pilvi.storage.records import Records

if TYPE_CHECKING:
    from pilvi.core.http import Request

PAGE: Final = 200
"""Messages read at once from the store."""
WINDOW: Final = 2000
FIFO_WINDOW: Final = 20_000
"""So far a FIFO queue looks for a group that is free."""
HELD_BYTES: Final = 4096
"""Longer messages are not kept open in memory."""


class Budget:
    """How many bytes of messages all queues hold open."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0


class Group:
    """The line of one message group."""

    __slots__ = ("flying", "is_free", "line", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.line: deque[Entry] = deque()
        self.flying = 0
        self.is_free = False
        """It stands in the heap of groups that may be received from."""


class Live:
    """One queue's messages."""

    def __init__(self, store: Records, queue: Queue, budget: Budget) -> None:
        self._store = store
        self._messages, self._states = queue.messages, queue.states
        self.is_fifo = queue.is_fifo
        self.queue = queue
        """As it was looked up last."""
        self._budget = budget
        self.entries: dict[int, Entry] = {}
        self.flying: dict[int, Entry] = {}
        self.delayed: set[int] = set()
        self.sending: dict[int, Entry] = {}
        """On their way into the store."""
        self.dirty: set[int] = set()
        """Received or changed since the last writing down."""
        self._ready: deque[Entry] = deque()
        self._returned: deque[Entry] = deque()
        self._groups: dict[str, Group] = {}
        self._free: list[tuple[int, str]] = []
        self._times: list[tuple[int, int]] = []
        """(instant, sequence) of what becomes visible then."""
        self._waiters: deque[asyncio.Future[None]] = deque()
        self.loaded_to = -1
        self.is_behind = True
        newest = store.scan(self._messages, limit=1, reverse=True)
        self._last = int(newest[0].id, 16) if newest else 0
        self.bound = self._last
        """What lies beyond came after the start, and was counted as it came."""
        self.counted_to = -1
        self.total = 0
        self.is_counted = False
        self.figures = Figures()
        self.attempts = Attempts()

    # -- what comes and goes ------------------------------------------------------------------------------------------

    def next_seq(self, now_ms: int) -> int:
        self._last = max(self._last + 1, now_ms * 1000)
        return self._last

    def arrived(self, entry: Entry, now: int) -> None:
        """A message was committed."""
        self.sending.pop(entry.seq, None)
        self.total += 1
        if self.is_behind and entry.seq > self.loaded_to:
            self.wake(1)
            return
        if len(self.entries) - len(self.flying) - len(self.delayed) >= WINDOW:
            self.is_behind = True
            return
        self.loaded_to = max(self.loaded_to, entry.seq)
        self._place(entry, now)
        self.wake(1)

    def removed(self, seq: int) -> None:
        """A message's row is gone."""
        entry = self.entries.pop(seq, None)
        if entry is None:
            if seq <= self.counted_to or seq > self.bound or self.is_counted:
                self.total = max(0, self.total - 1)
            return
        self.total -= 1
        self._let_go(entry)
        self.delayed.discard(seq)
        self.dirty.discard(seq)
        if self.flying.pop(seq, None) is not None and self.is_fifo:
            self._leave(entry)

    def _leave(self, entry: Entry) -> None:
        group = self._groups.get(entry.group)
        if group is None:
            return
        group.flying -= 1
        self._offer(group)

    # -- receiving ----------------------------------------------------------------------------------------------------

    def take(self, many: int, now: int, oldest: int, most_receives: int) -> tuple[list[Entry], list[Entry], list[Entry]]:
        """The next messages, those to be moved to the dead-letter queue, and those too old (sent before `oldest`). most_receives: 0 for any number. They are out of
        the line; who took them says what they become."""
        self.tick(now)
        return (
            self._take_fifo(many, now, oldest, most_receives) if self.is_fifo else self._take_any(many, now, oldest, most_receives)
        )

    def _take_any(self, many: int, now: int, oldest: int, most_receives: int) -> tuple[list[Entry], list[Entry], list[Entry]]:
        out: list[Entry] = []
        dead: list[Entry] = []
        old: list[Entry] = []
        while len(out) < many and len(dead) < PAGE and len(old) < PAGE:
            if self._returned:
                entry = self._returned.popleft()
            elif self._ready:
                entry = self._ready.popleft()
            elif self.is_behind:
                self.load(now)
                continue
            else:
                break
            if self.entries.get(entry.seq) is not entry:
                continue
            (old if entry.sent < oldest else dead if 0 < most_receives <= entry.receives else out).append(entry)
        return out, dead, old

    def _take_fifo(self, many: int, now: int, oldest: int, most_receives: int) -> tuple[list[Entry], list[Entry], list[Entry]]:
        out: list[Entry] = []
        dead: list[Entry] = []
        old: list[Entry] = []
        while len(out) < many and len(dead) < PAGE and len(old) < PAGE:
            if not self._free:
                if self.is_behind and len(self.entries) - len(self.flying) < FIFO_WINDOW:
                    self.load(now)
                    continue
                break
            group = self._groups[heappop(self._free)[1]]
            group.is_free = False
            if group.flying:
                continue
            while group.line and len(out) < many:
                entry = group.line[0]
                if self.entries.get(entry.seq) is entry:
                    if entry.invisible_until > now:
                        break
                    kind = old if entry.sent < oldest else dead if 0 < most_receives <= entry.receives else out
                    kind.append(entry)
                    group.flying += 1
                    self.flying[entry.seq] = entry
                group.line.popleft()
            self._offer(group)
        return out, dead, old

    def fly(self, entry: Entry, now: int, visibility_ms: int) -> None:
        """A message that was taken goes out to whoever asked."""
        entry.receives += 1
        entry.first = entry.first or now
        entry.last = max(now, entry.last + 1)
        self.flying[entry.seq] = entry
        self.dirty.add(entry.seq)
        self.hide(entry, now + visibility_ms, now)

    def hide(self, entry: Entry, until: int, now: int) -> None:
        """In flight until then; at once visible again when that is now."""
        entry.invisible_until = until
        self.dirty.add(entry.seq)
        if until <= now:
            self.put_back(entry)
        else:
            heappush(self._times, (until, entry.seq))

    def put_back(self, entry: Entry) -> None:
        """In flight no more: the next who asks may have it."""
        self.flying.pop(entry.seq, None)
        if self.is_fifo:
            group = self._groups[entry.group]
            line = group.line
            line.appendleft(entry)
            if len(line) > 1 and line[1].seq < entry.seq:
                group.line = deque(sorted(line, key=lambda one: one.seq))
            self._leave(entry)
        else:
            self._returned.append(entry)
        self.wake(1)

    # -- time -----------------------------------------------------------------------------------------------------------

    def tick(self, now: int) -> None:
        """What became visible until now."""
        times = self._times
        while times and times[0][0] <= now:
            instant, seq = heappop(times)
            entry = self.entries.get(seq)
            if entry is None or entry.invisible_until != instant:
                continue
            if seq in self.flying:
                self.put_back(entry)
            elif seq in self.delayed:
                self.delayed.discard(seq)
                if self.is_fifo:
                    self._offer(self._groups[entry.group])
                else:
                    self._ready.append(entry)
                self.wake(1)

    def next_time(self) -> int | None:
        """When something becomes visible, if anything does."""
        return self._times[0][0] if self._times else None

    # -- who waits --------------------------------------------------------------------------------------------------------

    def wake(self, many: int) -> None:
        waiters = self._waiters
        while many > 0 and waiters:
            waiter = waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                many -= 1

    def wake_all(self) -> None:
        self.wake(len(self._waiters))

    async def wait(self, timeout_s: float, request: Request | None) -> None:
        """Until a message may be there, the time is over, or whoever asked is gone."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters.append(waiter)
        timer = loop.call_later(timeout_s, _end, waiter)
        if request is not None:
            request.on_gone = lambda: _end(waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            if request is not None:
                request.on_gone = None
            if not waiter.done() or waiter.cancelled():
                self._forget(waiter)

    def _forget(self, waiter: asyncio.Future[None]) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    @property
    def is_awaited(self) -> bool:
        return any(not waiter.done() for waiter in self._waiters)

    # -- the store --------------------------------------------------------------------------------------------------------

    def load(self, now: int) -> None:
        """The next page of what lies behind the window."""
        after = id_of(self.loaded_to) if self.loaded_to >= 0 else ""
        rows = self._store.scan(self._messages, after=after, limit=PAGE)
        if rows:
            states = self._store.scan(self._states, after=after, before=rows[-1].id + "~", limit=PAGE)
            became = {row.id: row.value for row in states}
            for row in rows:
                seq = int(row.id, 16)
                if seq in self.sending or seq in self.entries:
                    continue
                entry = Entry(seq, row.value, None)
                if row.id in became:
                    entry.take_state(became[row.id])
                self._place(entry, now)
            self.loaded_to = int(rows[-1].id, 16)
        if len(rows) < PAGE:
            self.is_behind = False
            self.total = len(self.entries)
            self.is_counted = True

    def _place(self, entry: Entry, now: int) -> None:
        self.entries[entry.seq] = entry
        if entry.content is not None:
            if entry.size > HELD_BYTES or self._budget.used + entry.size > self._budget.most:
                entry.content = None
            else:
                self._budget.used += entry.size
        is_later = entry.invisible_until > now
        if is_later:
            heappush(self._times, (entry.invisible_until, entry.seq))
            if entry.last:
                self.flying[entry.seq] = entry
            else:
                self.delayed.add(entry.seq)
        if self.is_fifo:
            group = self._groups.get(entry.group)
            if group is None:
                group = self._groups[entry.group] = Group(entry.group)
            if is_later and entry.last:
                group.flying += 1
                return
            line = group.line
            line.append(entry)
            if len(line) > 1 and line[-2].seq > entry.seq:
                group.line = deque(sorted(line, key=lambda one: one.seq))
            self._offer(group)
        elif not is_later:
            self._ready.append(entry)

    def _offer(self, group: Group) -> None:
        """A group whose messages are all here may be received from."""
        line = group.line
        while line and self.entries.get(line[0].seq) is not line[0]:
            line.popleft()
        if not line:
            if not group.flying and not group.is_free:
                self._groups.pop(group.name, None)
        elif not group.flying and not group.is_free and line[0].seq not in self.delayed:
            group.is_free = True
            heappush(self._free, (line[0].seq, group.name))

    def told(self, entry: Entry) -> None:
        """It is on its way to somebody who will delete it: what was held of it is let go."""
        self._let_go(entry)
        entry.row.pop("p", None)

    def _let_go(self, entry: Entry) -> None:
        if entry.content is not None:
            self._budget.used -= entry.size
            entry.content = None

    def close(self) -> None:
        """It is forgotten: what it held is free."""
        for entry in self.entries.values():
            self._let_go(entry)
        self.wake_all()

    @property
    def visible(self) -> int:
        return max(0, self.total - len(self.flying) - len(self.delayed))

    def oldest(self) -> Entry | None:
        """The message that has waited longest, of those in memory."""
        line = self._returned or self._ready
        if self.is_fifo:
            return min((group.line[0] for group in self._groups.values() if group.line), key=lambda one: one.seq, default=None)
        return line[0] if line else None


def _end(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
