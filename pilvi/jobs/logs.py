"""What a job says: its lines go to CloudWatch Logs while it runs, and numbers are picked out of them."""

from __future__ import annotations

import logging
import re
import threading
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pilvi.core.clock import Clock
from pilvi.core.errors import PilviError
from pilvi.core.service import Context

log = logging.getLogger("pilvi.jobs")

# Source: CloudWatch Logs API reference, PutLogEvents: at most 10,000 events and 1,048,576 bytes, 26 bytes of it for each event.
_BATCH_EVENTS = 10_000
_BATCH_BYTES = 1_048_576
_EVENT_OVERHEAD = 26
_HELD_BYTES = 32 << 20
"""A program that shouts faster than lines can be kept loses some, and is told how many."""
_METRIC_CHARACTERS = 4096
"""Longer lines hold no metrics; it bounds what an unlucky expression can cost."""


class JobLog:
    """One stream. `add` is called by the thread that reads the program's output and never blocks; `flush` by the job's own."""

    def __init__(self, ctx: Context, group: str, stream: str, metrics: Sequence[tuple[str, str]] = ()) -> None:
        self._ctx = ctx
        self._group = group
        self._stream = stream
        self._lines: deque[tuple[int, str]] = deque()
        self._held_bytes = 0
        self._dropped = 0
        self._stamp = 0
        self._lock = threading.Lock()
        self._metrics = MetricScan(metrics)
        self._is_made = False
        self._is_failing = False

    def add(self, line: str) -> None:
        with self._lock:
            # A clock that was set back must not bring lines out of order.
            self._stamp = stamp = max(self._stamp, int(self._ctx.clock.time_s() * 1000))
            if self._held_bytes > _HELD_BYTES:
                self._dropped += 1
                return
            self._held_bytes += len(line)
            self._lines.append((stamp, line))

    def flush(self) -> list[dict[str, Any]]:
        """Bring what is there to the stream; gives the metrics found, each with name, value and time."""
        with self._lock:
            lines, self._lines = self._lines, deque()
            self._held_bytes = 0
            dropped, self._dropped = self._dropped, 0
        found = [point for stamp, line in lines for point in self._metrics.points(line, stamp, self._ctx.clock)]
        if dropped:
            lines.append((self._stamp, f"[{dropped} lines came too fast to be kept]"))
        if self._group and (lines or not self._is_made):
            try:
                self._make()
                for batch in batches(lines):
                    self._ctx.call("logs", "PutLogEvents", logGroupName=self._group, logStreamName=self._stream, logEvents=batch)
            except PilviError as error:
                if not self._is_failing:
                    log.warning("the log of %s cannot be kept: %s", self._stream, error)
                self._is_failing = True
        return found

    def _make(self) -> None:
        if self._is_made:
            return
        for operation, name in (("CreateLogGroup", {}), ("CreateLogStream", {"logStreamName": self._stream})):
            try:
                self._ctx.call("logs", operation, logGroupName=self._group, **name)
            except PilviError as error:
                if getattr(error, "code", "") != "ResourceAlreadyExistsException":
                    raise
        self._is_made = True


def batches(lines: Sequence[tuple[int, str]]) -> list[list[dict[str, Any]]]:
    """Events in portions that one PutLogEvents takes. Empty lines are not kept: an event needs a character."""
    found: list[list[dict[str, Any]]] = []
    size = _BATCH_BYTES
    for stamp, line in lines:
        if not line:
            continue
        cost = len(line.encode()) + _EVENT_OVERHEAD
        if size + cost > _BATCH_BYTES or len(found[-1]) >= _BATCH_EVENTS:
            found.append([])
            size = 0
        size += cost
        found[-1].append({"timestamp": stamp, "message": line})
    return found


class MetricScan:
    """Numbers in lines, by regular expressions as customers write them."""

    def __init__(self, metrics: Sequence[tuple[str, str]]) -> None:
        self._metrics = [(name, re.compile(regex)) for name, regex in metrics]

    def points(self, line: str, stamp_ms: int, clock: Clock) -> list[dict[str, Any]]:
        """Every number an expression's first group finds. A tab is also tried as #011, the form it has in AWS's log files."""
        if not self._metrics or len(line) > _METRIC_CHARACTERS:
            return []
        when = datetime.fromtimestamp(stamp_ms / 1000, clock.now().tzinfo)
        forms = (line, line.replace("\t", "#011")) if "\t" in line else (line,)
        found = []
        for name, regex in self._metrics:
            values = next((values for form in forms if (values := _numbers(regex, form))), [])
            found += [{"MetricName": name, "Value": value, "Timestamp": when} for value in values]
        return found


def _numbers(regex: re.Pattern[str], text: str) -> list[float]:
    found = []
    for match in regex.finditer(text):
        try:
            found.append(float(match.group(1 if regex.groups else 0)))
        except (TypeError, ValueError):
            continue
    return found
