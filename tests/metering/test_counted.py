"""Counters: nothing lost, nothing twice, one line an hour for each use."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from pilvi.core.ids import Ids
from pilvi.metering import lines_between
from pilvi.metering.counted import Counter, Use
from pilvi.storage.records.memory import MemoryRecords

START = datetime(2026, 11, 1, tzinfo=UTC)
REQUESTS = Use("AWSQueueService", "Requests-Tier1", "Unknown", "Requests")
COUNTED = Counter("sqs")


@pytest.fixture
def cloud() -> Any:
    now = [START.timestamp() + 60]
    return SimpleNamespace(memory={}, store=MemoryRecords(), ids=Ids(), now=now, clock=SimpleNamespace(time_s=lambda: now[0]))


def written(cloud: Any) -> list[tuple[int, str, int]]:
    """(hour, resource, quantity) of every line."""
    lines = lines_between(cloud.store, "1", START, START + timedelta(days=1))
    return [(line.start.hour, line.meter.resource, line.quantity) for line in lines]


def test_counts_of_an_hour_are_one_line_however_often_they_are_written(cloud: Any) -> None:
    for many in (1, 2, 3):
        COUNTED.add(cloud, REQUESTS, "1", "us-east-1", many)
        COUNTED.write_down(cloud)
        COUNTED.write_down(cloud)
    assert written(cloud) == [(0, "", 6)]


def test_hours_and_resources_have_lines_of_their_own(cloud: Any) -> None:
    COUNTED.add(cloud, REQUESTS, "1", "us-east-1", resource="a")
    COUNTED.add(cloud, REQUESTS, "1", "us-east-1", resource="b")
    cloud.now[0] += 3600
    COUNTED.add(cloud, REQUESTS, "1", "us-east-1", 5, resource="a")
    COUNTED.write_down(cloud)
    assert sorted(written(cloud)) == [(0, "a", 1), (0, "b", 1), (1, "a", 5)]


def test_processes_do_not_overwrite_each_other(cloud: Any) -> None:
    COUNTED.add(cloud, REQUESTS, "1", "us-east-1")
    COUNTED.write_down(cloud)
    cloud.memory.clear()  # another process on the same store
    COUNTED.add(cloud, REQUESTS, "1", "us-east-1")
    COUNTED.write_down(cloud)
    assert written(cloud) == [(0, "", 1), (0, "", 1)]


def test_threads_lose_nothing(cloud: Any) -> None:
    def count(_: int) -> None:
        COUNTED.add(cloud, REQUESTS, "1", "us-east-1")
        COUNTED.write_down(cloud)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(500)))
    COUNTED.write_down(cloud)
    assert written(cloud) == [(0, "", 500)]
