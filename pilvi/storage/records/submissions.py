"""The way from whoever writes to the thread that commits: what every durable adapter shares.

    submit, commit, write  ->  Intake: a queue  ->  take: all that waits, one batch  ->  ...  ->  wake everybody

Waiters of one event loop are handed over together and woken together, so that a write costs the loop little.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue

from pilvi.core.errors import PilviError, Unavailable
from pilvi.storage.records import Change
from pilvi.storage.records.batch import Prepared, prepare

log = logging.getLogger(__name__)

BATCH_SUBMISSIONS = 512
BATCH_BYTES = 8 << 20
COMPANY_S = 0.0003
"""How long a batch waits for more when the one before it was made of several: each commit costs a sync and two handovers between
threads, whatever it holds. Whoever writes alone never waits.
"""


class Submission:
    """A prepared submission and whoever waits for it: a future of either kind, or a thread on a lock."""

    __slots__ = ("clears", "error", "future", "lock", "loop", "prepared", "waiter")

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared
        self.clears = False
        self.error: PilviError | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.future: Future[None] | None = None
        self.lock: threading.Lock | None = None


Queue = SimpleQueue[list[Submission] | None]
"""What waits to be written; None ends the writer."""


class Intake:
    """The caller's side of a store: takes submissions until it is closed."""

    def __init__(self) -> None:
        self.queue: Queue = Queue()
        self.is_closed = False
        self._closing = threading.Lock()
        self._handing: dict[asyncio.AbstractEventLoop, list[Submission]] = {}

    def submit(self, changes: Sequence[Change]) -> Future[None]:
        submission = Submission(prepare(changes))
        future: Future[None] = Future()
        submission.future = future
        self._enqueue([submission])
        return future

    def commit(self, changes: Sequence[Change]) -> Awaitable[None]:
        submission = Submission(prepare(changes))
        submission.loop = loop = asyncio.get_running_loop()
        submission.waiter = waiter = loop.create_future()
        handing = self._handing.get(loop)
        if handing is None:
            self._handing[loop] = [submission]
            loop.call_soon(self._hand_over, loop)
        else:
            handing.append(submission)
        return waiter

    def write(self, changes: Sequence[Change]) -> None:
        self._wait(Submission(prepare(changes)))

    def clear(self) -> None:
        submission = Submission(prepare(()))
        submission.clears = True
        self._wait(submission)

    def close(self) -> bool:
        """Take nothing more; whether this call was the one that closed it."""
        with self._closing:
            if self.is_closed:
                return False
            self.is_closed = True
            self.queue.put(None)
            return True

    def _wait(self, submission: Submission) -> None:
        submission.lock = lock = threading.Lock()
        lock.acquire()
        self._enqueue([submission])
        lock.acquire()
        if submission.error is not None:
            raise submission.error

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        """What one round of an event loop has submitted wakes the writer once."""
        submissions = self._handing.pop(loop)
        try:
            self._enqueue(submissions)
        except Unavailable as error:
            for submission in submissions:
                submission.error = error
            settle(submissions)

    def _enqueue(self, submissions: list[Submission]) -> None:
        with self._closing:
            if self.is_closed:
                raise Unavailable("The store is closed.")
            self.queue.put(submissions)


class Taking:
    """The writer's side of the queue: everything that waits, up to the limits of a batch."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._had_company = False
        self._pause = threading.Lock()
        self._pause.acquire()

    def take(self) -> tuple[list[Submission], bool]:
        """Waits for the first; also whether the store is closing."""
        queue = self._queue
        taken: list[Submission] = []
        size = 0
        while not taken or (len(taken) < BATCH_SUBMISSIONS and size < BATCH_BYTES and queue.qsize()):
            submissions = queue.get()
            if submissions is None:
                return taken, True
            if not taken and self._had_company:
                self._pause.acquire(timeout=COMPANY_S)
            taken += submissions
            for submission in submissions:
                size += submission.prepared.size_bytes
        self._had_company = len(taken) > 1
        return taken, False


def wake(taken: list[Submission]) -> None:
    """Tell everybody: one call into each event loop, however many wait in it."""
    loops: dict[asyncio.AbstractEventLoop, list[Submission]] = {}
    for submission in taken:
        if submission.loop is not None:
            loops.setdefault(submission.loop, []).append(submission)
        elif submission.lock is not None:
            submission.lock.release()
        elif submission.future is not None and submission.future.set_running_or_notify_cancel():
            if submission.error is None:
                submission.future.set_result(None)
            else:
                submission.future.set_exception(submission.error)
    for loop, waiting in loops.items():
        try:
            loop.call_soon_threadsafe(settle, waiting)
        except RuntimeError:
            log.debug("records: %d waiters are gone with their event loop", len(waiting))


def settle(waiting: list[Submission]) -> None:
    """On the event loop: end the futures of a batch."""
    for submission in waiting:
        waiter = submission.waiter
        if waiter is not None and not waiter.done():
            if submission.error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(submission.error)
