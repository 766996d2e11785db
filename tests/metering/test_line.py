"""Lines: cut by the hour, nothing lost, written twice is written once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from pilvi.metering import Meter, keeping, lines_between, spread
from pilvi.metering.line import tags_of
from pilvi.storage.records import Put, Table
from pilvi.storage.records.memory import MemoryRecords

METER = Meter("id", "111122223333", "us-east-1", "AmazonSageMaker", "Train:ml.m5.large", "RunInstance", "arn", "ml.m5.large")
NOON = datetime(2026, 10, 31, 12, tzinfo=UTC)


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def test_an_hour_has_a_line_and_its_part() -> None:
    lines = spread(METER, [(NOON + minutes(50), NOON + minutes(140))], 5400, {"team": "a"})
    assert [(line.start, line.end, line.quantity) for line in lines] == [
        (NOON + minutes(50), NOON + minutes(60), 600),
        (NOON + minutes(60), NOON + minutes(120), 3600),
        (NOON + minutes(120), NOON + minutes(140), 1200),
    ]
    assert {line.tags["team"] for line in lines} == {"a"}


def test_spans_of_one_hour_share_its_line() -> None:
    lines = spread(METER, [(NOON, NOON + minutes(10)), (NOON + minutes(20), NOON + minutes(30))], 1200)
    assert [(line.start, line.end, line.quantity) for line in lines] == [(NOON, NOON + minutes(30), 1200)]


def test_a_moment_counts_and_nothing_does_not() -> None:
    assert [line.quantity for line in spread(METER, [(NOON, NOON)], 1)] == [1]
    assert spread(METER, [], 1) == spread(METER, [(NOON, NOON)], 0) == []


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**5)), min_size=1, max_size=5),
    st.integers(1, 10**6),
)
def test_no_part_is_lost(spans: list[tuple[int, int]], quantity: int) -> None:
    at, found = NOON, []
    for pause, length in spans:
        start = at + timedelta(seconds=pause / 7)
        at = start + timedelta(seconds=length / 7)
        found.append((start, at))
    lines = spread(METER, found, quantity)
    assert sum(line.quantity for line in lines) == quantity
    assert all(line.quantity > 0 and line.start <= line.end for line in lines)
    hours = [line.start.replace(minute=0, second=0, microsecond=0) for line in lines]
    assert len(set(hours)) == len(hours)
    assert hours == sorted(hours)


def test_written_twice_is_written_once() -> None:
    store = MemoryRecords()
    lines = spread(METER, [(NOON, NOON + minutes(90))], 5400)
    store.write(*keeping(lines))
    store.write(*keeping(lines))
    assert list(lines_between(store, METER.account, NOON, NOON + minutes(600))) == lines
    assert list(lines_between(store, "999999999999", NOON, NOON + minutes(600))) == []


def test_a_time_has_the_lines_that_begin_in_it() -> None:
    store = MemoryRecords()
    for number in range(30):
        store.write(
            *keeping(spread(replace(METER, id=str(number)), [(NOON + minutes(10 * number), NOON + minutes(10 * number + 5))], 300))
        )
    found = list(lines_between(store, METER.account, NOON + minutes(30), NOON + minutes(130)))
    assert [line.meter.id for line in found] == ["3", "4", "5", *(str(number) for number in range(6, 13))] or len(found) == 10
    assert {line.meter.id for line in found} == {str(number) for number in range(3, 13)}


def test_tags_are_those_of_the_service() -> None:
    store = MemoryRecords()
    store.write(Put(Table("1", "us-east-1", "sagemaker", "Tags"), "arn", {"Tags": [{"Key": "team", "Value": "a"}]}))
    assert tags_of(store, "1", "us-east-1", "sagemaker", "arn") == {"team": "a"}
    assert tags_of(store, "1", "us-east-1", "sagemaker", "other") == {}
