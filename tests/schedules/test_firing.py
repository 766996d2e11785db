"""Timers: fired when they are due, once, whoever else changes them and whatever happens in between."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from pilvi.core.clock import ProductClock
from pilvi.schedules import Periodic, Schedules
from pilvi.schedules.firing import MOST, RETRY_S, Fire, Fired, Firing, Moment, Timer, clearing, setting
from pilvi.storage.records import Records, Table, Update
from pilvi.storage.records.memory import MemoryRecords
from pilvi.storage.records.sqlite import SqliteRecords
from pilvi.testing.server import eventually
from pilvi.testing.virtual_clock import VirtualClock

OWN = Table("", "", "s", "Thing")
MINUTE_MS = 60_000


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Records]:
    made: Records = MemoryRecords() if request.param == "memory" else SqliteRecords(tmp_path / "records.sqlite")
    yield made
    made.close()


@pytest.fixture
def clock() -> ProductClock:
    return ProductClock(VirtualClock())


def now_ms(clock: ProductClock) -> int:
    return int(clock.time_s() * 1000)


def firing(store: Records, clock: ProductClock, fire: Fire) -> Firing:
    return Firing(cast(Any, None), store, clock, lambda: {"s/thing": fire})


def test_a_timer_fires_once_when_it_is_due(store: Records, clock: ProductClock) -> None:
    fired: list[Timer] = []

    def fire(_cloud: Any, timer: Timer, _moment: Moment) -> Fired:
        fired.append(timer)
        return Fired()

    mine = firing(store, clock, fire)
    due = now_ms(clock) + 5000
    store.write(setting("s/thing", "1/eu/a/b", due), setting("s/thing", "other", due + MINUTE_MS))
    assert mine.fire_due() == 0
    clock.offset_s += 5
    assert mine.fire_due() == 1
    assert fired == [Timer("s/thing", "1/eu/a/b", due)]
    assert mine.fire_due() == 0


def test_a_start_needs_nothing_but_the_store(store: Records, clock: ProductClock) -> None:
    """Killed before it was due: late, and once, with what was missed told from what was waited for."""
    moments: list[Moment] = []

    def fire(_cloud: Any, _timer: Timer, moment: Moment) -> Fired:
        moments.append(moment)
        return Fired()

    store.write(setting("s/thing", "a", now_ms(clock)))
    clock.offset_s += 3600
    assert firing(store, clock, fire).fire_due() == 1
    assert firing(store, clock, fire).fire_due() == 0
    assert moments == [Moment(now_ms(clock), now_ms(clock) - MINUTE_MS)]


def test_what_a_move_of_the_clock_passed_was_not_missed(store: Records, clock: ProductClock) -> None:
    times: list[int] = []

    def fire(_cloud: Any, timer: Timer, moment: Moment) -> Fired:
        assert timer.due_ms > moment.since_ms
        times.append(timer.due_ms)
        return Fired((setting("s/thing", timer.id, timer.due_ms + MINUTE_MS),))

    mine = firing(store, clock, fire)
    first = now_ms(clock) + MINUTE_MS
    store.write(setting("s/thing", "a", first))
    clock.offset_s += 600
    assert mine.fire_due() == 10
    assert times == [first + number * MINUTE_MS for number in range(10)]


def test_of_a_long_move_of_the_clock_the_first_thousand_times_fire(store: Records, clock: ProductClock) -> None:
    times: list[int] = []

    def fire(_cloud: Any, timer: Timer, moment: Moment) -> Fired:
        times.append(timer.due_ms)
        passed = max(timer.due_ms, moment.since_ms) - timer.due_ms
        return Fired((setting("s/thing", timer.id, timer.due_ms + MINUTE_MS * (1 + passed // MINUTE_MS)),))

    mine = firing(store, clock, fire)
    store.write(setting("s/thing", "a", now_ms(clock) + MINUTE_MS))
    clock.offset_s += 100 * 86_400
    assert mine.fire_due() in (MOST + 1, MOST + 2)
    assert times[:3] == [times[0], times[0] + MINUTE_MS, times[0] + 2 * MINUTE_MS]
    clock.offset_s += 60
    assert mine.fire_due() == 1


def test_what_changes_is_written_with_the_end_of_the_timer(store: Records, clock: ProductClock) -> None:
    told: list[str] = []

    def fire(_cloud: Any, timer: Timer, _moment: Moment) -> Fired:
        row = store.get(OWN, timer.id)
        assert row is not None
        if len(told) == 0 and row.version == 1:
            store.write(Update(OWN, timer.id, {"by": "its owner"}, row.version))
        return Fired((Update(OWN, timer.id, {**row.value, "fired": True}, row.version),), lambda: told.append(timer.id))

    from pilvi.storage.records import Insert

    store.write(Insert(OWN, "a", {}), setting("s/thing", "a", now_ms(clock)))
    mine = firing(store, clock, fire)
    assert mine.fire_due() == 1
    row = store.get(OWN, "a")
    assert row is not None
    assert row.value == {"by": "its owner", "fired": True}
    assert told == ["a"]


def test_a_timer_that_its_owner_cleared_does_not_fire(store: Records, clock: ProductClock) -> None:
    due = now_ms(clock)
    store.write(setting("s/thing", "a", due))
    store.write(clearing("s/thing", "a", due), setting("s/thing", "a", due + MINUTE_MS))
    assert firing(store, clock, lambda _cloud, _timer, _moment: Fired()).fire_due() == 0


def test_a_broken_timer_stops_no_other(store: Records, clock: ProductClock, caplog: pytest.LogCaptureFixture) -> None:
    fired: list[str] = []
    is_broken = True

    def fire(_cloud: Any, timer: Timer, _moment: Moment) -> Fired:
        if timer.id == "bad" and is_broken:
            raise ValueError("no")
        fired.append(timer.id)
        return Fired()

    mine = firing(store, clock, fire)
    store.write(setting("s/thing", "bad", now_ms(clock) - 5), setting("s/thing", "good", now_ms(clock)))
    assert mine.fire_due() == 1
    assert fired == ["good"]
    assert "bad of s/thing failed" in caplog.text
    is_broken = False
    assert mine.fire_due() == 0
    cast(VirtualClock, clock._machine).advance(RETRY_S)
    assert mine.fire_due() == 1


def test_many_timers_of_one_instant_all_fire(store: Records, clock: ProductClock) -> None:
    fired: set[str] = set()

    def fire(_cloud: Any, timer: Timer, _moment: Moment) -> Fired:
        fired.add(timer.id)
        return Fired()

    store.write(*(setting("s/thing", str(number), now_ms(clock)) for number in range(1000)))
    assert firing(store, clock, fire).fire_due() == 1000
    assert len(fired) == 1000


def test_two_servers_fire_a_timer_once(store: Records, clock: ProductClock) -> None:
    fired: list[str] = []
    both = threading.Barrier(2)

    def fire(_cloud: Any, timer: Timer, _moment: Moment) -> Fired:
        both.wait(10)
        return Fired((), lambda: fired.append(timer.id))

    store.write(setting("s/thing", "a", now_ms(clock)))
    one = threading.Thread(target=firing(store, clock, fire).fire_due)
    one.start()
    # Whoever comes second finds the timer gone, and does not ask again.
    firing(store, clock, fire).fire_due()
    one.join()
    assert fired == ["a"]


def test_the_thread_is_woken_by_an_earlier_timer(store: Records) -> None:
    from pilvi.core.clock import SystemClock

    clock = ProductClock(SystemClock())
    fired: list[tuple[int, int]] = []

    def fire(_cloud: Any, timer: Timer, moment: Moment) -> Fired:
        fired.append((timer.due_ms, moment.now_ms))
        return Fired()

    mine = firing(store, clock, fire)
    mine.start()
    try:
        due = now_ms(clock) + 150
        store.write(setting("s/thing", "a", due))
        mine.expect(due)
        eventually(lambda: fired, within_s=4.0, every_s=0.01)
    finally:
        mine.close()
    assert fired[0][1] - due < 1000


def test_a_long_task_does_not_delay_a_short_one(store: Records) -> None:
    clock = VirtualClock()
    began, go_on, ran = threading.Event(), threading.Event(), threading.Event()

    def scrub(_cloud: Any) -> None:
        began.set()
        go_on.wait(20)

    tasks = {"s/scrub": Periodic("scrub", 86_400.0, scrub), "s/figures": Periodic("figures", 60.0, lambda _cloud: ran.set())}
    mine = Schedules(cast(Any, None), store, clock, "one", lambda: tasks)
    mine.run_due()
    clock.advance(86_400)
    mine.start()
    try:
        assert began.wait(20)
        assert ran.wait(20)
        ran.clear()
        clock.advance(60)
        mine.wake()
        assert ran.wait(20)
        assert not go_on.is_set()
    finally:
        go_on.set()
        mine.close()
