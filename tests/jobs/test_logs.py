"""Lines on their way to CloudWatch Logs."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pilvi.core.clock import SystemClock
from pilvi.core.errors import ServiceError
from pilvi.jobs.logs import JobLog, MetricScan, batches


@given(st.lists(st.tuples(st.integers(0, 2**41), st.text(max_size=40)), max_size=60))
def test_batches_keep_order_and_lose_nothing(lines: list[tuple[int, str]]) -> None:
    found = [event for batch in batches(lines) for event in batch]
    assert [(event["timestamp"], event["message"]) for event in found] == [line for line in lines if line[1]]


def test_batches_keep_the_limits() -> None:
    assert [len(batch) for batch in batches([(1, "x")] * 25_000)] == [10_000, 10_000, 5_000]
    for batch in batches([(1, "ä" * 100_000)] * 12):
        assert sum(len(event["message"].encode()) + 26 for event in batch) <= 1_048_576


def test_points_are_every_number_of_a_line() -> None:
    scan = MetricScan([("loss", "loss=([0-9.e-]+)"), ("whole", "[0-9]+%")])
    values = [(point["MetricName"], point["Value"]) for point in scan.points("loss=1 loss=2e-1 loss=- 5%", 0, SystemClock())]
    assert values == [("loss", 1.0), ("loss", 0.2)]
    assert scan.points("loss=1" + "x" * 5000, 0, SystemClock()) == []


class Ctx:
    """What a JobLog asks of a context."""

    clock = SystemClock()

    def __init__(self, trouble: str = "") -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.trouble = trouble

    def call(self, service: str, operation: str, **params: Any) -> dict[str, Any]:
        self.calls.append((operation, params))
        if operation == "CreateLogGroup":
            raise ServiceError("ResourceAlreadyExistsException")
        if operation == self.trouble:
            raise ServiceError("ServiceUnavailableException", "later")
        return {}


def test_flush_makes_group_and_stream_once() -> None:
    ctx = Ctx()
    output = JobLog(ctx, "g", "s")  # type: ignore[arg-type]
    output.add("one")
    output.flush()
    output.add("")
    output.add("two")
    output.flush()
    output.flush()
    assert [operation for operation, _ in ctx.calls] == ["CreateLogGroup", "CreateLogStream", "PutLogEvents", "PutLogEvents"]
    assert [event["message"] for _, params in ctx.calls for event in params.get("logEvents", ())] == ["one", "two"]


def test_flush_survives_a_failing_log_service() -> None:
    output = JobLog(Ctx("PutLogEvents"), "g", "s", [("n", "n=(.)")])  # type: ignore[arg-type]
    output.add("n=5")
    assert [point["Value"] for point in output.flush()] == [5.0]


def test_add_drops_what_cannot_be_held_and_says_so() -> None:
    ctx = Ctx()
    output = JobLog(ctx, "g", "s")  # type: ignore[arg-type]
    for _ in range(200):
        output.add("x" * 250_000)
    output.flush()
    last = [event["message"] for _, params in ctx.calls for event in params.get("logEvents", ())][-1]
    assert json.loads(last.split()[0][1:]) > 0
    assert "too fast" in last
