"""The numbers a job has told so far, bounded: the latest of each metric, and a history of each."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

_KEPT_EACH = 500
_KEPT_METRICS = 100

Point = dict[str, Any]
"""MetricName, Value, Timestamp"""


class Points:
    """Written by the job's thread, read by any."""

    def __init__(self, earlier: Sequence[Point] = ()) -> None:
        """earlier: of a run before an interruption."""
        self._history: dict[str, deque[Point]] = {}
        self._lock = threading.Lock()
        self.add(earlier)

    def add(self, points: Sequence[Point]) -> None:
        with self._lock:
            for point in points:
                history = self._history.get(point["MetricName"])
                if history is None:
                    if len(self._history) >= _KEPT_METRICS:
                        continue
                    history = self._history[point["MetricName"]] = deque(maxlen=_KEPT_EACH)
                history.append(point)

    def latest(self) -> list[Point]:
        with self._lock:
            return [history[-1] for history in self._history.values()]

    def all(self) -> list[Point]:
        """By time, as far as they are kept: the last 500 of each metric."""
        with self._lock:
            return sorted((point for history in self._history.values() for point in history), key=lambda point: point["Timestamp"])
