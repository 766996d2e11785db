"""Time as an argument: the cloud's own (the real one and an offset that people move), the system's, or a virtual one in tests.

    ctx.clock.now(), time_s()          the product's time: objects' dates, lifecycle, locks, restores, schedules, bills
    ctx.clock.real_now(), real_s()     the time of the world: what is compared with a client's clock (signatures, presigned
                                       URLs, session tokens), and how long a program has really run

A virtual clock stands in pilvi.testing.virtual_clock; where the offset is kept, in pilvi.schedules.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from pilvi.core.errors import Invalid

UNITS_S = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
"""What `31d` and `1d12h` are made of."""

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[wdhms])+\Z")
_PIECE = re.compile(r"(\d+(?:\.\d+)?)([wdhms])")


class Clock(Protocol):
    """What may be asked of time."""

    def now(self) -> datetime:
        """The present instant of the cloud, aware, in UTC."""

    def time_s(self) -> float:
        """The same as seconds since 1970."""

    def real_now(self) -> datetime:
        """The present instant of the world."""

    def real_s(self) -> float:
        """The same as seconds since 1970."""

    def sleep_s(self, seconds: float) -> None:
        """Block this thread for a while."""


class SystemClock:
    """The real one."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def time_s(self) -> float:
        return time.time()

    def real_now(self) -> datetime:
        return datetime.now(UTC)

    def real_s(self) -> float:
        return time.time()

    def sleep_s(self, seconds: float) -> None:
        time.sleep(seconds)


class ProductClock:
    """The time that the cloud lives in: the real one, and how far people have moved it."""

    def __init__(self, real: Clock, look: Callable[[], float] | None = None) -> None:
        """look: asks for the offset each time, where other processes may move it; else it is this object's own."""
        self._machine = real
        self._look = look
        self.offset_s: float = 0.0

    def offset(self) -> float:
        return self.offset_s if self._look is None else self._look()

    def now(self) -> datetime:
        ahead = self.offset_s if self._look is None else self._look()
        return self._machine.now() + timedelta(seconds=ahead) if ahead else self._machine.now()

    def time_s(self) -> float:
        ahead = self.offset_s if self._look is None else self._look()
        return self._machine.time_s() + ahead

    def real_now(self) -> datetime:
        return self._machine.now()

    def real_s(self) -> float:
        return self._machine.time_s()

    def sleep_s(self, seconds: float) -> None:
        self._machine.sleep_s(seconds)


def seconds_to(text: str, now: datetime) -> float:
    """How far `31d`, `1d12h`, `2027-01-01` or `2027-01-01T08:00:00Z` lies ahead. Invalid for what is none of them, or lies behind."""
    if _DURATION.match(text):
        return float(sum(float(count) * UNITS_S[unit] for count, unit in _PIECE.findall(text)))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Invalid(f"'{text}' is neither a time span (90s, 15m, 6h, 31d, 2w, 1d12h) nor a date (2027-01-01).") from None
    ahead = (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds()
    if ahead < 0:
        raise Invalid(f"{text} lies behind the cloud's time ({now:%Y-%m-%dT%H:%M:%SZ}); the clock only moves forward.")
    return float(ahead)


def span_text(seconds: float) -> str:
    """`31d`, `1d12h`: a span as people write it, to the second."""
    rest, pieces = round(seconds), []
    for unit in ("d", "h", "m", "s"):
        count, rest = divmod(rest, UNITS_S[unit])
        if count:
            pieces.append(f"{count}{unit}")
    return "".join(pieces) or "0s"
