"""A clock that tests move."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from pilvi.core.clock import Clock
from pilvi.testing.virtual_clock import START, VirtualClock


def test_time_passes_when_told() -> None:
    clock = VirtualClock()
    as_port: Clock = clock
    assert as_port.now() == START
    assert as_port.time_s() == START.timestamp()
    as_port.sleep_s(90)
    clock.advance(86_400)
    assert clock.now() == START + timedelta(days=1, seconds=90)
    clock.set(datetime(2030, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))))
    assert clock.now() == datetime(2030, 1, 1, tzinfo=UTC)
    assert clock.now().tzinfo is UTC
