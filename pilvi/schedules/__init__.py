"""What services do again and again: `Periodic` tasks, run when they are due on the product's clock.

    pilvi/services/s3/schedule.py     TASKS = (Periodic("lifecycle", 86_400, run_lifecycle),)

A task is due once in each period, counted from 1970 (a daily one at midnight UTC): when it last ended in an earlier period than
now's. What was due several times, while the server was down or because the clock was moved, runs once. When it last ended is
kept, so a run that was cut off by a crash is done again: tasks must be able to run twice. It runs in one server at a time
(leader.py). A task that fails is told in the log and tried again after RETRY_S.

Two threads: what comes round within the hour does not wait for what may take hours (a scrub, an inventory). What has an instant of
its own is a timer (firing.py).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pilvi.core.clock import Clock
from pilvi.core.errors import Unavailable
from pilvi.schedules.firing import Fire, Firing
from pilvi.schedules.leader import Leader
from pilvi.storage.records import Put, Records, Table

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

__all__ = ["Periodic", "Ran", "Schedules"]

log = logging.getLogger("pilvi.schedules")

RUNS = Table("", "", "schedules", "Run")

LONGEST_WAIT_S = 60.0
"""How long the thread sleeps at most: another server may have moved the clock, and a laptop may have slept."""
LED_WAIT_S = 5.0
"""Until the next look while another server runs what is due: it may have died."""
QUICK_S = 3600.0
"""Tasks of a shorter period have a thread of their own."""
RETRY_S = 60.0
ROUNDS = 20
"""What ran may make other things due; after so many rounds of one call the rest is left to the thread."""
ASK_S = 0.05


class Periodic(NamedTuple):
    """A task of a service."""

    name: str
    period_s: float
    run: Callable[[Cloud], None]
    """In a thread. Long ones ask `cloud.schedules.is_closing` between pages and return when it is true."""
    has_work: Callable[[Cloud], bool] | None = None
    """A cheap look, where there is one: a task without work is not run, and nothing is written down about it."""


class Ran(NamedTuple):
    """What one call of `run_due` did."""

    done: tuple[str, ...]
    failed: tuple[str, ...]
    is_leader: bool


class Schedules:
    """Runs the tasks of one server, and ends its timers."""

    def __init__(
        self,
        cloud: Cloud,
        store: Records,
        clock: Clock,
        name: str,
        find_tasks: Callable[[], Mapping[str, Periodic]],
        find_timers: Callable[[], Mapping[str, Fire]] = dict,
    ) -> None:
        """name: of this server, unlike any other's, and the same after a restart: its own lease holds nobody up. find_tasks, find_timers: by `service/name`; asked once, in a thread."""
        self._cloud = cloud
        self._store = store
        self._clock = clock
        self._leader = Leader(store, clock, name)
        self._find_tasks = find_tasks
        self._tasks: Mapping[str, Periodic] | None = None
        self._finding = threading.Lock()
        self._closing = threading.Event()
        self._retry: dict[str, float] = {}
        self._lines = (Line(self, lambda task: task.period_s < QUICK_S), Line(self, lambda task: task.period_s >= QUICK_S))
        self._firing = Firing(cloud, store, clock, find_timers)

    @property
    def is_closing(self) -> bool:
        return self._closing.is_set()

    def start(self) -> None:
        """Look for what is due from now on."""
        self._firing.start()
        for number, line in enumerate(self._lines):
            line.start(f"pilvi-schedules-{number}")

    def wake(self) -> None:
        """The clock was moved, or something may be due earlier than thought."""
        self._firing.wake()
        for line in self._lines:
            line.changed.set()

    def expect(self, due_ms: int) -> None:
        """A timer was set for then (firing.py). From any thread; costs next to nothing."""
        self._firing.expect(due_ms)

    def close(self) -> None:
        """End; waits for the tasks that run. What they had left is done after the next start."""
        self._closing.set()
        self._firing.close()
        for line in self._lines:
            line.close()

    def run_due(self) -> Ran:
        """Run all that is due now, and what becomes due by that; nothing when another server leads."""
        ran = [line.run_due() for line in self._lines]
        return Ran(
            tuple(name for one in ran for name in one.done),
            tuple(name for one in ran for name in one.failed),
            all(one.is_leader for one in ran),
        )

    def run_all_due(self) -> Ran:
        """The same, with the timers, but waits for another leader until nothing is due any more: for whoever moved the clock."""
        self._retry.clear()
        done: dict[str, None] = {}
        failed: dict[str, None] = {}
        while True:
            fired = self._firing.fire_due()
            ran = self.run_due()
            done |= dict.fromkeys(ran.done)
            failed |= dict.fromkeys(ran.failed)
            if self.is_closing or (ran.is_leader and not (ran.done or fired)):
                return Ran(tuple(done), tuple(name for name in failed if name not in done), ran.is_leader)
            if not ran.is_leader:
                self._closing.wait(ASK_S)

    def facts(self) -> dict[str, Any]:
        """When each task last ended, for people."""
        return {name: row.value["ended_s"] for name in self.known() if (row := self._store.get(RUNS, name)) is not None}

    def forget(self) -> None:
        """The store was emptied: begin anew."""
        self._retry.clear()
        self._firing.forget()

    # -- for its lines ----------------------------------------------------------------------------------------------

    def known(self) -> Mapping[str, Periodic]:
        with self._finding:
            if self._tasks is None:
                self._tasks = self._find_tasks()
            return self._tasks

    def run_these(self, chosen: Collection[str]) -> Ran:
        """Of these tasks, all that is due now and becomes due by that."""
        done: dict[str, None] = {}
        failed: dict[str, None] = {}
        for _ in range(ROUNDS):
            due = [] if self.is_closing else [name for name in self._due(chosen) if name not in failed]
            if not due:
                break
            with self._leader.leading() as is_leader:
                if not is_leader:
                    return Ran(tuple(done), tuple(failed), False)
                # Asked again: another leader may have run them in between.
                for name in self._due(chosen):
                    if name in due and not self.is_closing:
                        (done if self._run(name) else failed)[name] = None
        return Ran(tuple(done), tuple(failed), True)

    def pause_s(self, chosen: Collection[str]) -> float:
        """Until one of these may be due."""
        now = self._clock.time_s()
        periods = [task.period_s for name, task in self.known().items() if name in chosen]
        return min([LONGEST_WAIT_S, *(period_s - now % period_s + 0.01 for period_s in periods)])

    # -- inside -----------------------------------------------------------------------------------------------------

    def _due(self, chosen: Collection[str]) -> list[str]:
        now, real = self._clock.time_s(), self._clock.real_s()
        found = []
        for name, task in self.known().items():
            if name not in chosen:
                continue
            row = self._store.get(RUNS, name)
            if row is None:
                # Nothing can have waited for a task that this store has never seen.
                self._store.write(Put(RUNS, name, {"ended_s": now}))
            elif now // task.period_s <= row.value["ended_s"] // task.period_s or self._retry.get(name, 0.0) > real:
                continue
            elif task.has_work is None or task.has_work(self._cloud):
                found.append(name)
        return found

    def _run(self, name: str) -> bool:
        """Whether it ran to its end."""
        began = self._clock.time_s()
        try:
            self.known()[name].run(self._cloud)
        except Exception:  # whatever a task does, the others must go on
            if self.is_closing:
                return False
            log.exception("the task %s failed; it is tried again", name)
            self._retry[name] = self._clock.real_s() + RETRY_S
            return False
        if self.is_closing:
            return False
        self._retry.pop(name, None)
        # The instant it began with: what happened while it ran belongs to its next period.
        self._store.write(Put(RUNS, name, {"ended_s": began}))
        return True


class Line:
    """Some of the tasks, one after the other, in a thread of their own."""

    def __init__(self, schedules: Schedules, is_mine: Callable[[Periodic], bool]) -> None:
        self._schedules = schedules
        self._is_mine = is_mine
        self._running = threading.Lock()
        self._thread: threading.Thread | None = None
        self.changed = threading.Event()

    def start(self, name: str) -> None:
        self._thread = threading.Thread(target=self._watch, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.changed.set()
        if self._thread is not None:
            self._thread.join()
        with self._running:
            pass

    def run_due(self) -> Ran:
        with self._running:
            return self._schedules.run_these(self._mine())

    def _mine(self) -> set[str]:
        return {name for name, task in self._schedules.known().items() if self._is_mine(task)}

    def _watch(self) -> None:
        while not self._schedules.is_closing:
            self.changed.clear()
            try:
                pause = self._schedules.pause_s(self._mine()) if self.run_due().is_leader else LED_WAIT_S
            except Unavailable:  # the store is closed or away
                pause = LONGEST_WAIT_S
            except Exception:
                log.exception("schedules could not be looked at")
                pause = LONGEST_WAIT_S
            self.changed.wait(pause)
