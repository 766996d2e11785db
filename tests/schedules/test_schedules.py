"""Periodic tasks: when they are due, once for all servers on a store, again after a crash."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from pilvi.core.clock import ProductClock
from pilvi.schedules import RETRY_S, Periodic, Schedules
from pilvi.schedules.leader import LEASE_S, Leader
from pilvi.storage.records import Records
from pilvi.storage.records.memory import MemoryRecords
from pilvi.storage.records.sqlite import SqliteRecords
from pilvi.testing.server import eventually
from pilvi.testing.virtual_clock import VirtualClock

DAY = 86_400.0


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Records]:
    made: Records = MemoryRecords() if request.param == "memory" else SqliteRecords(tmp_path / "records.sqlite")
    yield made
    made.close()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def schedules(store: Records, clock: Any, name: str = "one", **tasks: Callable[[Any], None]) -> Schedules:
    known = {f"s/{task}": Periodic(task, DAY, run) for task, run in tasks.items()}
    return Schedules(cast(Any, None), store, clock, name, lambda: known)


def test_a_task_is_due_once_a_period(store: Records, clock: VirtualClock) -> None:
    runs: list[float] = []
    mine = schedules(store, clock, daily=lambda _cloud: runs.append(clock.time_s()))
    assert mine.run_due().done == ()
    clock.advance(DAY - 1)
    assert mine.run_due().done == ()
    clock.advance(1)
    assert mine.run_due().done == ("s/daily",)
    assert mine.run_due().done == ()
    clock.advance(31 * DAY)
    assert mine.run_all_due().done == ("s/daily",)
    assert len(runs) == 2


def test_what_ran_is_known_after_a_restart(store: Records, clock: VirtualClock) -> None:
    runs: list[str] = []
    schedules(store, clock, "before", daily=lambda _cloud: runs.append("before")).run_due()
    clock.advance(DAY)
    assert schedules(store, clock, "after", daily=lambda _cloud: runs.append("after")).run_due().done == ("s/daily",)
    assert schedules(store, clock, "again", daily=lambda _cloud: runs.append("again")).run_due().done == ()
    assert runs == ["after"]


def test_a_task_that_fails_is_tried_again_and_stops_no_other(
    store: Records, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    runs: list[str] = []

    def fail(_cloud: Any) -> None:
        runs.append("bad")
        if len(runs) < 3:
            raise ValueError("no")

    mine = schedules(store, clock, bad=fail, good=lambda _cloud: runs.append("good"))
    mine.run_due()
    clock.advance(DAY)
    ran = mine.run_due()
    assert (ran.done, ran.failed) == (("s/good",), ("s/bad",))
    assert "s/bad failed" in caplog.text
    assert mine.run_due().done == ()
    clock.advance(RETRY_S)
    assert mine.run_due().done == ("s/bad",)


def test_what_makes_other_things_due_is_followed(store: Records) -> None:
    clock = ProductClock(VirtualClock())

    def push(_cloud: Any) -> None:
        if clock.offset_s < 3 * DAY:
            clock.offset_s += DAY

    mine = schedules(store, clock, push=push)
    mine.run_due()
    clock.offset_s += DAY
    assert mine.run_due().done == ("s/push",)
    assert clock.offset_s == 3 * DAY


def test_only_one_server_leads(store: Records, clock: VirtualClock) -> None:
    one, two = Leader(store, clock, "one"), Leader(store, clock, "two")
    with one.leading() as leads:
        assert leads
        with two.leading() as also:
            assert not also
    with two.leading() as leads:
        assert leads


def test_the_lease_of_a_dead_server_runs_out(store: Records, clock: VirtualClock) -> None:
    assert Leader(store, clock, "dead").take()
    alive = schedules(store, clock, "alive", daily=lambda _cloud: None)
    alive.run_due()
    clock.advance(DAY - LEASE_S)
    assert Leader(store, clock, "dead").take()
    clock.advance(LEASE_S - 1)
    assert Leader(store, clock, "alive").take() is False
    clock.advance(1)
    assert alive.run_due().done == ("s/daily",)


def test_two_servers_run_a_task_once(store: Records, clock: VirtualClock) -> None:
    runs: list[str] = []
    began, go = threading.Event(), threading.Event()

    def slow(who: str) -> Callable[[Any], None]:
        def run(_cloud: Any) -> None:
            began.set()
            assert go.wait(30)
            runs.append(who)

        return run

    one, two = schedules(store, clock, "one", daily=slow("one")), schedules(store, clock, "two", daily=slow("two"))
    one.run_due()
    two.run_due()
    clock.advance(DAY)
    first = threading.Thread(target=one.run_due)
    first.start()
    assert began.wait(30)
    assert not two.run_due().is_leader
    waiting = threading.Thread(target=two.run_all_due)
    waiting.start()
    go.set()
    first.join(30)
    waiting.join(30)
    assert runs == ["one"]


def test_the_thread_runs_what_is_due_and_ends(store: Records) -> None:
    clock = ProductClock(VirtualClock())
    runs: list[int] = []
    mine = schedules(store, clock, daily=lambda _cloud: runs.append(1))
    mine.start()
    eventually(lambda: mine.facts())
    clock.offset_s = DAY
    mine.wake()
    eventually(lambda: runs)
    mine.close()
    assert mine.is_closing
