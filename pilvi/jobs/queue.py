"""The queue: placement brought to life. Each running job has a thread of its own; one more looks at clocks while anybody waits.

    add -> Placement -> thread: run(id, grants) -> place given back -> the next

No thread exists before the first job, and none is left when there is nothing to do.
"""

from __future__ import annotations

import heapq
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

from pilvi.compute import Node
from pilvi.jobs.placement import Grant, Placement, Wishes

log = logging.getLogger("pilvi.jobs")

LOOK_S = 5.0
"""How often waiting jobs' clocks, and the nodes, are looked at."""


class Queue:
    def __init__(
        self,
        nodes: Callable[[], Sequence[Node]],
        run: Callable[[str, tuple[Grant, ...]], bool],
        refuse: Callable[[str, str], None],
        expire: Callable[[str], None],
        time_s: Callable[[], float],
        slots: int | None = None,
        yielded: Callable[[str], None] = lambda _: None,
    ) -> None:
        """nodes: those there are now. run: carries out a job; True puts it back at the end. refuse: a job that can never be placed, and why. expire: a job that
        has waited too long. yielded: a place that was held is needed by somebody. These four are called on threads of the queue.
        slots: how many jobs run on a node at the same time, instead of as many as it has room for."""
        self._nodes = nodes
        self._run = run
        self._refuse = refuse
        self._expire = expire
        self._yielded = yielded
        self._time_s = time_s
        self._slots = slots
        self._lock = threading.Lock()
        self._placement: Placement | None = None
        self._seen: tuple[Node, ...] = ()
        self._threads: set[threading.Thread] = set()
        self._clock: threading.Thread | None = None
        self._until: list[tuple[float, str]] = []
        self._asked: dict[str, tuple[Wishes, float | None]] = {}
        """Of jobs that wait or run."""
        self._holds: set[str] = set()
        """Jobs that run and whose place is kept when they have ended."""
        self._held: dict[str, None] = {}
        """Jobs that have ended and whose place is kept, the oldest first."""
        self._heirs: dict[str, str] = {}
        """Whose place goes to whom as soon as it has ended."""
        self._is_closed = False
        self._ending = threading.Event()

    def add(self, id: str, wishes: Wishes, until: float | None = None) -> None:
        """Stand at the end. until: when it is not worth waiting any more."""
        nodes = self._current_nodes()
        with self._lock:
            if self._is_closed:
                return
            placement = self._look(nodes)
            if self._admit(placement, id, wishes, until):
                self._start(placement)
            self._wind_clock(placement)

    def remove(self, id: str) -> None:
        """Leave the queue; nothing happens to a job that runs."""
        with self._lock:
            if self._placement is not None and self._placement.remove(id):
                del self._asked[id]
                self._start(self._placement)

    def hold(self, id: str) -> None:
        """Keep the place of a running job when it has ended, until `let_go`, `take_over`, or until somebody waits who needs it."""
        with self._lock:
            self._holds.add(id)

    def let_go(self, id: str) -> None:
        with self._lock:
            self._holds.discard(id)
            if id in self._held and self._placement is not None:
                del self._held[id]
                self._placement.release(id)
                self._start(self._placement)

    def take_over(self, id: str, heir: str, wishes: Wishes, until: float | None = None) -> bool:
        """Start in the place of a job that was held, as soon as that has ended; whether there is such a place."""
        with self._lock:
            placement = self._placement
            if placement is None or self._is_closed:
                return False
            if id in self._held:
                del self._held[id]
                grants = placement.hand_over(id, heir)
                assert grants is not None
                self._asked[heir] = (wishes, until)
                self._spawn(lambda: self._serve(heir, grants))
                return True
            if id in self._holds:
                self._holds.discard(id)
                self._heirs[id] = heir
                self._asked[heir] = (wishes, until)
                return True
            return False

    def reason(self, id: str) -> str:
        """Why a job waits; '' when it does not."""
        with self._lock:
            return self._placement.reason(id) if self._placement is not None else ""

    def facts(self) -> dict[str, Any]:
        """How many jobs run and wait, and why the first does."""
        with self._lock:
            placement = self._placement
            if placement is None:
                return {"running": 0, "waiting": 0}
            found: dict[str, Any] = {"running": placement.running - len(self._held), "waiting": placement.waiting}
            return {**found, "reason": placement.first_reason()} if placement.waiting else found

    def close(self) -> None:
        """Nobody starts any more; who waits is let go. `join` waits for those that run."""
        with self._lock:
            self._is_closed = True
            self._ending.set()
            self._until.clear()
            self._heirs.clear()
            if self._placement is not None:
                self._placement.clear()
                self._asked.clear()

    def join(self, timeout_s: float) -> None:
        deadline = self._time_s() + timeout_s
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, deadline - self._time_s()))

    def open(self) -> None:
        """Begin again after `close`."""
        with self._lock:
            self._is_closed = False
            self._ending.clear()

    # -- private, all with the lock held but for the threads ----------------------------------------------------------

    def _current_nodes(self) -> tuple[Node, ...]:
        """Asked without the lock: an engine may take its time. The last known ones when it fails."""
        try:
            return tuple(self._nodes())
        except Exception:
            if self._placement is None:
                raise
            log.exception("the nodes could not be asked for")
            return self._seen

    def _look(self, nodes: tuple[Node, ...]) -> Placement:
        if self._placement is None:
            self._placement = Placement(nodes, self._slots)
        elif nodes != self._seen:
            self._placement.see(nodes)
        self._seen = nodes
        return self._placement

    def _admit(self, placement: Placement, id: str, wishes: Wishes, until: float | None) -> bool:
        """Into the queue; whether somebody may start now."""
        if trouble := placement.trouble(wishes):
            self._spawn(lambda: self._refuse(id, trouble))
            return False
        self._asked[id] = (wishes, until)
        if until is not None:
            heapq.heappush(self._until, (until, id))
        return placement.add(id, wishes)

    def _wind_clock(self, placement: Placement) -> None:
        if placement.waiting and self._clock is None:
            self._clock = threading.Thread(target=self._watch, name="pilvi-jobs-clock", daemon=True)
            self._clock.start()

    def _start(self, placement: Placement) -> None:
        if not self._is_closed:
            for id, grants in self._ready(placement):
                self._spawn(lambda id=id, grants=grants: self._serve(id, grants))  # type: ignore[misc]

    def _ready(self, placement: Placement) -> list[tuple[str, tuple[Grant, ...]]]:
        """Who may run now. Places that are held are given to those that would have to wait."""
        found = placement.start()
        while placement.waiting and self._held:
            id = next(iter(self._held))
            del self._held[id]
            placement.release(id)
            self._spawn(lambda id=id: self._yielded(id))  # type: ignore[misc]
            found += placement.start()
        return found

    def _spawn(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=self._last, args=(work,), name="pilvi-job", daemon=True)
        self._threads.add(thread)
        thread.start()

    def _last(self, work: Callable[[], None]) -> None:
        try:
            work()
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _serve(self, id: str, grants: tuple[Grant, ...]) -> None:
        """Run a job, then the next one that its place is for, until there is none."""
        following: tuple[str, tuple[Grant, ...]] | None = (id, grants)
        while following is not None:
            id, grants = following
            runs_again = False
            try:
                runs_again = self._run(id, grants)
            except Exception:  # the job is told as it stands in the records; other jobs must go on
                log.exception("job %s was lost by its runner", id)
            following = self._after(id, runs_again=runs_again)

    def _after(self, id: str, *, runs_again: bool) -> tuple[str, tuple[Grant, ...]] | None:
        """A place is free: start whom it helps; the first of them on this thread."""
        with self._lock:
            placement = self._placement
            assert placement is not None
            ready: list[tuple[str, tuple[Grant, ...]]] = []
            if (heir := self._heirs.pop(id, None)) is not None and (grants := placement.hand_over(id, heir)) is not None:
                ready.append((heir, grants))
            elif id in self._holds and not self._is_closed:
                self._held[id] = None
            else:
                placement.release(id)
            self._holds.discard(id)
            asked = self._asked.pop(id, None)
            if runs_again and asked is not None:
                self._admit(placement, id, *asked)
            ready = [] if self._is_closed else ready + self._ready(placement)
            self._wind_clock(placement)
            for other, grants in ready[1:]:
                self._spawn(lambda id=other, grants=grants: self._serve(id, grants))  # type: ignore[misc]
            return ready[0] if ready else None

    def _watch(self) -> None:
        """While anybody waits: who has waited too long, and whether there are other nodes."""
        while not self._ending.wait(LOOK_S):
            nodes = self._current_nodes()
            with self._lock:
                placement = self._look(nodes)
                self._start(placement)
                late = self._late(placement)
            for id in late:
                try:
                    self._expire(id)
                except Exception:  # the next one must be told all the same
                    log.exception("job %s has waited too long and could not be told so", id)
                    with self._lock:
                        heapq.heappush(self._until, (self._time_s() + LOOK_S, id))
            with self._lock:
                if self._is_closed or (self._placement is not None and not self._placement.waiting):
                    self._clock = None
                    return
        with self._lock:
            self._clock = None

    def _late(self, placement: Placement) -> list[str]:
        found = []
        while self._until and self._until[0][0] <= self._time_s():
            _, id = heapq.heappop(self._until)
            if placement.reason(id):
                found.append(id)
        return found
