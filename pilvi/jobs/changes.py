"""Who waits for news of a job: only those hear of a change who asked for that job, however many others there are."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection

_KEPT_ENDED = 10_000
"""Of so many jobs that ended it is known when; who asks about older ones is told at once to look."""


class Changes:
    """A running number of changes, and which job had which last."""

    def __init__(self) -> None:
        self._number = 0
        self._last: dict[str, int] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._waiting: dict[str, set[threading.Event]] = {}
        self._forgotten = 0
        """The newest change that is no longer known by job."""
        self._is_closed = False
        self._lock = threading.Lock()

    def tell(self, id: str, *, is_end: bool = False) -> None:
        """This job has something new."""
        with self._lock:
            self._number += 1
            self._last[id] = self._number
            if is_end:
                self._ended[id] = None
                while len(self._ended) > _KEPT_ENDED:
                    old, _ = self._ended.popitem(last=False)
                    self._forgotten = max(self._forgotten, self._last.pop(old))
            for waiter in self._waiting.get(id, ()):
                waiter.set()

    def wait(self, ids: Collection[str], timeout_s: float, after: int | None = None) -> int:
        """Block until one of the jobs has a change newer than number `after` (None: newer than now), time is over, or `close`.

        Gives the number to go on from: look at the jobs when it returns, then wait with it, and no change is missed.
        """
        waiter, ids = threading.Event(), frozenset(ids)
        with self._lock:
            if self._is_closed or (after is not None and self._is_news(ids, after)):
                return self._number
            for id in ids:
                self._waiting.setdefault(id, set()).add(waiter)
        waiter.wait(timeout_s)
        with self._lock:
            for id in ids:
                others = self._waiting[id]
                others.discard(waiter)
                if not others:
                    del self._waiting[id]
            return self._number

    def close(self) -> None:
        """Everybody stops waiting, for good."""
        with self._lock:
            self._is_closed = True
            for waiters in self._waiting.values():
                for waiter in waiters:
                    waiter.set()

    def reopen(self) -> None:
        with self._lock:
            self._is_closed = False

    # -- private ------------------------------------------------------------------------------------------------------

    def _is_news(self, ids: Collection[str], after: int) -> bool:
        return any(self._last.get(id, self._forgotten) > after for id in ids)
