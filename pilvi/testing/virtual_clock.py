"""A clock that tests move: a day passes in a millisecond."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 1, tzinfo=UTC)


class VirtualClock:
    """Stands still until told otherwise; `sleep_s` returns at once, later by what was slept."""

    def __init__(self, now: datetime = START) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def time_s(self) -> float:
        return self._now.timestamp()

    def real_now(self) -> datetime:
        return self._now

    def real_s(self) -> float:
        return self._now.timestamp()

    def sleep_s(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += timedelta(seconds=seconds)

    def set(self, now: datetime) -> None:
        """Jump to an aware instant."""
        self._now = now.astimezone(UTC)
