"""Time as an argument: the system's clock, or a virtual one in tests (pilvi.testing.virtual_clock)."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What may be asked of time."""

    def now(self) -> datetime:
        """The present instant, aware, in UTC."""

    def time_s(self) -> float:
        """The present instant as seconds since 1970."""

    def sleep_s(self, seconds: float) -> None:
        """Block this thread for a while."""


class SystemClock:
    """The real one."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def time_s(self) -> float:
        return time.time()

    def sleep_s(self, seconds: float) -> None:
        time.sleep(seconds)
