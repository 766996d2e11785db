"""Meters that run: seen every minute, ended once, paid for until they were last seen."""

from __future__ import annotations

from datetime import timedelta

from pilvi.metering import Meter, charges_between
from pilvi.metering.running import Beat, ending, running, starting
from pilvi.storage.records.memory import MemoryRecords
from pilvi.testing.virtual_clock import START, VirtualClock

METER = Meter("id", "111122223333", "us-east-1", "AmazonSageMaker", "Notebk:ml.t3.medium", "RunInstance", "arn", "ml.t3.medium")
DAYS = timedelta(days=3)


def total(store: MemoryRecords) -> int:
    return sum(charge.line.quantity for charge in charges_between(store, METER.account, START, START + DAYS))


def test_a_meter_counts_until_its_last_look_and_ends_once() -> None:
    store, clock = MemoryRecords(), VirtualClock()
    store.write(starting(METER, "sagemaker", clock.now()))
    beat = Beat(store, clock, METER.account, METER.resource)
    clock.advance(30)
    beat()
    assert total(store) == 1, "it was seen at its start only"
    for _ in range(120):
        clock.advance(60)
        beat()
    assert total(store) == 7230
    (found,) = running(store, METER.account)
    assert found.seconds == 7230
    clock.advance(86400)  # the server died here
    changes = ending(store, METER.account, METER.resource)
    store.write(*changes)
    assert total(store) == 7230
    assert list(running(store, METER.account)) == []
    assert ending(store, METER.account, METER.resource) == ()
    beat(is_last=True)
    assert total(store) == 7230
    hours = [charge.line.quantity for charge in charges_between(store, METER.account, START, START + DAYS)]
    assert hours == [3600, 3600, 30]
