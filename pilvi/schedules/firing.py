"""Timers: what is to happen at an instant of the product's clock, once, whatever happens to the server.

    setting("scheduler/schedule", id, due_ms)     part of the transaction that makes it so
    ... commit ...
    cloud.schedules.expect(due_ms)                so that nobody sleeps beyond it

    rows "0001795327200000/scheduler/schedule/<id>" in the order of their time -> the first is what is waited for
        due -> its service's function says what changes -> those changes and the end of the timer: one transaction

The rows are the heap: a start has nothing to rebuild, millions cost what ten do, and of two servers on one store one ends the timer.
Fired to the second while the server runs; what was missed while it did not, late and once; all that became due when the clock was
moved (of what recurs the first thousand times), before whoever moved it has the answer. A service declares its functions in `schedule.py`:

    TIMERS = {"schedule": fire}

`fire(cloud, timer, moment)` gives what it changes (guarded by the version of its own row: who owns a timer may just be changing it) and
is called again when that could not be written. It must not do the work itself: it records a fact for a consumer (pilvi.events).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from pilvi.core.clock import Clock
from pilvi.core.errors import AlreadyExists, Conflict, NotFound, Unavailable
from pilvi.storage.records import Change, Delete, Put, Records, Row, Table

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

log = logging.getLogger("pilvi.schedules")

TIMERS: Final = Table("", "", "schedules", "Timer")

LOOK_S: Final = 5.0
"""How long the thread sleeps at most: another server may have moved the clock, and a laptop may have slept."""
RETRY_S: Final = 30.0
GRACE_MS: Final = 60_000
"""What became due within the last minute was not missed, only waited for."""
PAGE: Final = 200
"""Timers that end in one transaction."""
MOST: Final = 1000
"""How often a timer that is set again and again fires when the clock was moved over its times; the rest counts as missed."""


class Timer(NamedTuple):
    who: str
    """`service/name`"""
    id: str
    """Its owner's, with account and Region where those matter."""
    due_ms: int
    """Milliseconds since 1970 on the product's clock."""


class Moment(NamedTuple):
    """When timers are looked at."""

    now_ms: int
    since_ms: int
    """What recurs happens each time after this instant; before, while the server did not run, it was missed and happens once."""


class Fired(NamedTuple):
    """What comes of a timer."""

    changes: Sequence[Change] = ()
    afterwards: Callable[[], None] | None = None
    """Once the changes are written: wakes whoever waits for them."""


Fire = Callable[["Cloud", Timer, Moment], Fired]


def setting(who: str, id: str, due_ms: int) -> Put:
    """The change that sets a timer."""
    return Put(TIMERS, key_of(who, id, due_ms), {})


def clearing(who: str, id: str, due_ms: int) -> Delete:
    """The change that ends one: NotFound when it has just fired, so whoever changes it looks again."""
    return Delete(TIMERS, key_of(who, id, due_ms))


def key_of(who: str, id: str, due_ms: int) -> str:
    return f"{max(due_ms, 0):016d}/{who}/{id}"


def timer_of(row: Row) -> Timer:
    due, service, name, id = row.id.split("/", 3)
    return Timer(f"{service}/{name}", id, int(due))


class Firing:
    """Ends the timers of one server."""

    def __init__(self, cloud: Cloud, store: Records, clock: Clock, find: Callable[[], Mapping[str, Fire]]) -> None:
        """find: functions by `service/name`; asked once, in a thread."""
        self._cloud = cloud
        self._store = store
        self._clock = clock
        self._find = find
        self._fires: Mapping[str, Fire] | None = None
        self._running = threading.Lock()
        self._changed = threading.Event()
        self._is_closing = False
        self._next_ms = 0
        """What the thread sleeps for."""
        self._ahead_s = self._ahead()
        self._retry: dict[str, float] = {}
        self._fired: dict[tuple[str, str], int] = {}
        """How often each timer fired in this round."""
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._watch, name="pilvi-firing", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._is_closing = True
        self._changed.set()
        if self._thread is not None:
            self._thread.join()
        with self._running:
            pass

    def expect(self, due_ms: int) -> None:
        """A timer was set for then. From any thread."""
        if due_ms < self._next_ms:
            self._changed.set()

    def wake(self) -> None:
        """The clock was moved."""
        self._changed.set()

    def forget(self) -> None:
        """The store was emptied: begin anew."""
        self._retry.clear()
        self._ahead_s = self._ahead()

    def fire_due(self) -> int:
        """End every timer that is due now, and what becomes due by that; how many there were."""
        many = 0
        with self._running:
            self._fired.clear()
            real_s = self._clock.real_s()
            self._retry = {key: again_s for key, again_s in self._retry.items() if again_s > real_s}
            moment = self._moment()
            while found := self._end_page(moment):
                many += found
                # The clock goes on; what a move of it passed stays what it was.
                moment = Moment(self._now_ms(), moment.since_ms)
            self._ahead_s = self._ahead()
        return many

    # -- inside -----------------------------------------------------------------------------------------------------

    def _ahead(self) -> float:
        return round(self._clock.time_s() - self._clock.real_s(), 3)

    def _now_ms(self) -> int:
        return int(self._clock.time_s() * 1000)

    def _moment(self) -> Moment:
        now = self._now_ms()
        moved_ms = max(0, int((self._ahead() - self._ahead_s) * 1000))
        return Moment(now, now - moved_ms - GRACE_MS)

    def _known(self) -> Mapping[str, Fire]:
        if self._fires is None:
            self._fires = self._find()
        return self._fires

    def _end_page(self, moment: Moment) -> int:
        """End the first timers that are due; together, or each by itself where one of them could not be."""
        page = [(row, fired) for row in self._due(moment) if (fired := self._asked(timer_of(row), moment)) is not None]
        if self._is_closing or not page:
            return 0
        if self._written(page):
            return len(page)
        return sum(self._end_one(row, moment) for row, _ in page)

    def _due(self, moment: Moment) -> list[Row]:
        """Timers whose time has come, without those that failed a moment ago."""
        found: list[Row] = []
        for row in self._rows(f"{moment.now_ms + 1:016d}"):
            if row.id not in self._retry:
                found.append(row)
            if len(found) == PAGE:
                break
        return found

    def _rows(self, before: str) -> Iterator[Row]:
        after = ""
        while rows := self._store.scan(TIMERS, after=after, before=before, limit=PAGE):
            yield from rows
            after = rows[-1].id

    def _asked(self, timer: Timer, moment: Moment) -> Fired | None:
        """What comes of a timer; None when it cannot be said now."""
        fire = self._known().get(timer.who)
        try:
            if fire is None:
                raise LookupError(f"nobody is {timer.who}")
            if self._fired.get((timer.who, timer.id), 0) >= MOST:
                moment = Moment(moment.now_ms, moment.now_ms - GRACE_MS)
            return fire(self._cloud, timer, moment)
        except Exception:  # whatever a service does, the others must go on
            if not self._is_closing:
                log.exception("the timer %s of %s failed; it is tried again", timer.id, timer.who)
                self._retry[key_of(*timer)] = self._clock.real_s() + RETRY_S
            return None

    def _end_one(self, row: Row, moment: Moment) -> int:
        """1 when that could be done. What somebody else changed meanwhile is looked at again at once."""
        if self._store.get(TIMERS, row.id) is None:
            return 0
        fired = self._asked(timer_of(row), moment)
        if fired is None:
            return 0
        if self._written([(row, fired)]):
            return 1
        self._retry[row.id] = self._clock.real_s() + 1.0
        return 0

    def _written(self, page: Sequence[tuple[Row, Fired]]) -> bool:
        changes: list[Change] = []
        for row, fired in page:
            changes += (Delete(TIMERS, row.id, row.version), *fired.changes)
        try:
            self._store.write(*changes)
        except (AlreadyExists, Conflict, NotFound):
            return False
        for row, fired in page:
            self._retry.pop(row.id, None)
            timer = timer_of(row)
            self._fired[timer.who, timer.id] = self._fired.get((timer.who, timer.id), 0) + 1
            if fired.afterwards is not None:
                fired.afterwards()
        return True

    def _watch(self) -> None:
        while not self._is_closing:
            self._changed.clear()
            try:
                self.fire_due()
                pause = self._pause_s()
            except Unavailable:  # the store is closed or away
                pause = LOOK_S
            except Exception:
                log.exception("timers could not be looked at")
                pause = LOOK_S
            self._changed.wait(pause)

    def _pause_s(self) -> float:
        """Until the next timer. While it is asked for, whoever sets an earlier one wakes this thread."""
        self._next_ms = 1 << 62
        now = self._now_ms()
        waiting = [self._wait_s(row, now) for row in self._store.scan(TIMERS, limit=len(self._retry) + 1)]
        pause = min([LOOK_S, *waiting])
        self._next_ms = now + int(pause * 1000)
        return pause

    def _wait_s(self, row: Row, now_ms: int) -> float:
        if (again := self._retry.get(row.id)) is not None:
            return max(0.05, again - self._clock.real_s())
        return max(0.0, (timer_of(row).due_ms - now_ms) / 1000)
