"""Delivery: at least once, in order per key, nobody held up by anybody else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from pilvi.core.ids import Ids
from pilvi.events import Consumer, Entry, Fact, GiveUp, Patience
from pilvi.events import lane as lanes
from pilvi.events.delivery import Delivery
from pilvi.events.embedded import EmbeddedLog
from pilvi.events.lane import WINDOW, delay_s
from pilvi.events.lease import LEASE_S, LEASES, NAME, Lease
from pilvi.storage.records import Put, Records, Table
from pilvi.storage.records.memory import MemoryRecords
from pilvi.storage.records.sqlite import SqliteRecords
from pilvi.testing.virtual_clock import VirtualClock

THINGS = Table("", "", "test", "Thing")
Take = Callable[[Any, Fact], Awaitable[None]]


class House:
    """A store, a clock and a delivery, with the consumers of a test."""

    def __init__(self, *consumers: Consumer, store: Records | None = None, lease: bool = False) -> None:
        self.store = store or MemoryRecords()
        self.clock = VirtualClock()
        self.log = EmbeddedLog(self.store, self.clock, Ids())
        claim = Lease(self.store, Ids(), self.clock.time_s) if lease else None
        self.delivery = Delivery(self.log, self.clock, lambda _service: consumers, claim)

    async def publish(self, key: str, number: int, *, who: str = "test/one", lane: str = "lane") -> None:
        await self.store.commit([Put(THINGS, key, {}), self.delivery.recording(who, lane, key, {"key": key, "n": number})])
        self.delivery.wake(who, lane)

    async def empty(self, who: str = "test/one") -> None:
        async with asyncio.timeout(20):
            while self.log.lanes(who):
                await asyncio.sleep(0.005)


def story(run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(run())


def test_facts_arrive_in_order_of_their_key() -> None:
    async def run() -> None:
        seen: dict[str, list[int]] = {}

        async def take(_cloud: Any, fact: Fact) -> None:
            await asyncio.sleep(0.0005 * (fact["n"] % 3))
            seen.setdefault(fact["key"], []).append(fact["n"])

        house = House(Consumer("test/one", take))
        house.delivery.start(None)  # type: ignore[arg-type]
        for number in range(300):
            await house.publish(f"k{number % 7}", number)
        await house.empty()
        assert sum(map(len, seen.values())) == 300
        assert all(numbers == sorted(numbers) for numbers in seen.values())
        await house.delivery.stop()

    story(run)


def test_what_lay_there_before_the_start_is_delivered() -> None:
    async def run() -> None:
        seen: list[int] = []

        async def take(_cloud: Any, fact: Fact) -> None:
            seen.append(fact["n"])

        house = House(Consumer("test/one", take))
        for number in range(5):
            await house.publish("k", number)
        assert seen == []
        house.delivery.start(None)  # type: ignore[arg-type]
        await house.empty()
        assert seen == [0, 1, 2, 3, 4]
        await house.delivery.stop()

    story(run)


def test_a_failed_fact_holds_up_its_key_only_and_is_tried_again_when_due() -> None:
    async def run() -> None:
        seen: list[tuple[str, int]] = []
        broken = {"bad"}

        async def take(_cloud: Any, fact: Fact) -> None:
            if fact["key"] in broken:
                raise OSError("the other side is away")
            seen.append((fact["key"], fact["n"]))

        house = House(Consumer("test/one", take, patience=Patience(first_s=10)))
        house.delivery.start(None)  # type: ignore[arg-type]
        await house.publish("bad", 1)
        await house.publish("bad", 2)
        await house.publish("good", 3)
        async with asyncio.timeout(20):
            while seen != [("good", 3)] or house.log.read("test/one", "lane", 9)[0].tries != 1:
                await asyncio.sleep(0.005)
        assert [entry.fact["n"] for entry in house.log.read("test/one", "lane", 9)] == [1, 2]
        assert "the other side is away" in house.log.read("test/one", "lane", 9)[0].error
        broken.clear()
        house.clock.advance(13)
        await house.empty()
        assert seen == [("good", 3), ("bad", 1), ("bad", 2)]
        await house.delivery.stop()

    story(run)


def test_a_stuck_lane_and_a_stuck_consumer_hold_up_nobody_else() -> None:
    async def run() -> None:
        seen: list[int] = []
        never = asyncio.Event()

        async def take(_cloud: Any, fact: Fact) -> None:
            if fact["n"] < 0:
                await never.wait()
            seen.append(fact["n"])

        house = House(Consumer("test/one", take, parallel=2), Consumer("test/two", take, parallel=2))
        house.delivery.start(None)  # type: ignore[arg-type]
        for number in range(10):
            await house.publish(f"k{number}", -1, lane="stuck")
        await house.publish("k", 1, lane="free")
        await house.publish("k", 2, who="test/two", lane="stuck")
        async with asyncio.timeout(20):
            while sorted(seen) != [1, 2]:
                await asyncio.sleep(0.005)
        await house.delivery.stop()

    story(run)


def test_what_lies_behind_many_that_wait_is_delivered() -> None:
    async def run() -> None:
        seen: list[str] = []

        async def take(_cloud: Any, fact: Fact) -> None:
            if fact["key"].startswith("bad"):
                raise OSError("the other side is away")
            seen.append(fact["key"])

        house = House(Consumer("test/one", take, patience=Patience(first_s=1000), parallel=50))
        house.delivery.start(None)  # type: ignore[arg-type]
        for number in range(WINDOW + 100):
            await house.publish(f"bad{number}", number)
        await house.publish("bad7", 1)
        await house.publish("good", 1)
        async with asyncio.timeout(30):
            while seen != ["good"]:
                await asyncio.sleep(0.01)
        assert len(house.log.read("test/one", "lane", 2000)) == WINDOW + 101
        await house.delivery.stop()

    story(run)


@pytest.mark.parametrize("hopeless", [False, True])
def test_what_cannot_be_delivered_becomes_a_dead_letter_and_the_key_goes_on(hopeless: bool) -> None:
    async def run() -> None:
        seen: list[int] = []
        told: list[str] = []

        async def take(_cloud: Any, fact: Fact) -> None:
            if fact["n"] == 1:
                raise GiveUp("no such place") if hopeless else OSError("no such place")
            seen.append(fact["n"])

        async def gave_up(_cloud: Any, _fact: Fact, reason: str) -> None:
            told.append(reason)

        house = House(Consumer("test/one", take, gave_up, Patience(first_s=1, attempts=3)))
        house.delivery.start(None)  # type: ignore[arg-type]
        await house.publish("k", 1)
        await house.publish("k", 2)
        async with asyncio.timeout(20):
            while house.log.lanes("test/one"):
                house.clock.advance(5)
                await asyncio.sleep(0.01)
        assert seen == [2]
        (letter,) = house.log.dead("test/one")
        assert letter.fact["n"] == 1
        assert letter.tries == (1 if hopeless else 3)
        assert len(told) == 1
        assert "no such place" in told[0]
        assert await house.delivery.settle(5)
        await house.delivery.stop()

    story(run)


def test_an_attempt_that_takes_too_long_has_failed() -> None:
    async def run() -> None:
        tries = 0

        async def take(_cloud: Any, _fact: Fact) -> None:
            nonlocal tries
            tries += 1
            if tries == 1:
                await asyncio.Event().wait()

        house = House(Consumer("test/one", take, timeout_s=0.05))
        house.delivery.start(None)  # type: ignore[arg-type]
        await house.publish("k", 1)
        async with asyncio.timeout(20):
            while house.log.lanes("test/one"):
                house.clock.advance(5)
                await asyncio.sleep(0.01)
        assert tries == 2
        await house.delivery.stop()

    story(run)


def test_facts_of_an_unknown_consumer_stay() -> None:
    async def run() -> None:
        house = House()
        house.delivery.start(None)  # type: ignore[arg-type]
        await house.publish("k", 1, who="gone/one")
        await asyncio.sleep(0.05)
        assert len(house.log.read("gone/one", "lane", 9)) == 1
        await house.delivery.stop()

    story(run)


def test_two_servers_on_one_store_have_one_deliverer(tmp_path: Path) -> None:
    async def run() -> None:
        seen: list[tuple[str, int]] = []

        def taker(name: str) -> Consumer:
            async def take(_cloud: Any, fact: Fact) -> None:
                seen.append((name, fact["n"]))

            return Consumer("test/one", take)

        first = House(taker("first"), store=SqliteRecords(tmp_path / "r.db", shared=True), lease=True)
        second = House(taker("second"), store=SqliteRecords(tmp_path / "r.db", shared=True), lease=True)
        await first.publish("k", 0)
        first.delivery.start(None)  # type: ignore[arg-type]
        await first.empty()
        second.delivery.start(None)  # type: ignore[arg-type]
        for number in range(1, 6):
            await second.publish("k", number)
        await second.empty()
        assert seen == [("first", number) for number in range(6)]
        await first.delivery.stop()
        await second.publish("k", 6)
        await second.empty()
        assert seen[-1] == ("second", 6)
        await second.delivery.stop()
        first.store.close()
        second.store.close()

    story(run)


def test_a_lease_is_let_go_by_a_server_that_leads_no_more() -> None:
    async def run() -> None:
        store, clock = MemoryRecords(), VirtualClock()
        leads = {"one": False, "two": True}
        one = Lease(store, Ids(), clock.time_s, lambda: leads["one"])
        two = Lease(store, Ids(), clock.time_s, lambda: leads["two"])
        assert not await one.hold()
        assert await two.hold()
        leads.update(one=True, two=False)
        assert not two.is_held
        assert not await two.hold()
        assert await one.hold()
        assert one.is_held

    story(run)


def test_a_lease_is_taken_over_when_it_ends_or_its_holder_died() -> None:
    async def run() -> None:
        store, clock = MemoryRecords(), VirtualClock()
        mine, theirs = Lease(store, Ids(), clock.time_s), Lease(store, Ids(), clock.time_s)
        assert await mine.hold()
        assert not await theirs.hold()
        clock.advance(LEASE_S / 2)
        assert await mine.hold()
        clock.advance(LEASE_S * 0.6)
        assert not await theirs.hold()
        clock.advance(LEASE_S)
        assert await theirs.hold()
        assert not await mine.hold()
        row = store.get(LEASES, NAME)
        assert row is not None
        await store.commit([Put(LEASES, NAME, row.value | {"pid": 2**22 + 1, "until": clock.time_s() + 1000})])
        assert await mine.hold()
        await mine.release()
        assert store.get(LEASES, NAME) is None

    story(run)


def test_delays_double_up_to_their_limit() -> None:
    house = House()
    change = house.log.recording("test/one", "lane", "k", {})
    house.store.write(change)
    entry = house.log.read("test/one", "lane", 1)[0]
    patience = Patience(first_s=1, most_s=60)
    delays = [delay_s(patience, entry._replace(tries=tries)) for tries in range(10)]
    for tries, delay in enumerate(delays):
        base = min(2**tries, 60)
        assert base * 0.875 <= delay <= base * 1.125


def test_a_key_with_more_entries_than_a_window_does_not_starve_the_others() -> None:
    async def run() -> None:
        others = asyncio.Event()
        seen: list[int] = []

        async def take(_cloud: Any, fact: Fact) -> None:
            if fact["key"] == "other":
                others.set()
                return
            await others.wait()
            seen.append(fact["n"])

        house = House(Consumer("test/one", take))
        for number in range(WINDOW * 2):
            await house.publish("busy", number)
        await house.publish("other", 0)
        house.delivery.start(None)  # type: ignore[arg-type]
        async with asyncio.timeout(10):
            await others.wait()
        await house.empty()
        assert seen == list(range(WINDOW * 2))
        await house.delivery.stop()

    story(run)


def test_a_consumer_may_decide_itself_what_comes_of_a_failure() -> None:
    async def run() -> None:
        seen: list[int] = []

        async def take(_cloud: Any, _fact: Fact) -> None:
            raise OSError("gone")

        async def failed(_cloud: Any, entry: Entry, error: Exception) -> float | None:
            assert isinstance(error, OSError)
            seen.append(entry.tries)
            return None if entry.tries == 2 else 20.0 * entry.tries

        house = House(Consumer("test/one", take, failed=failed, patience=Patience(attempts=1)))
        house.delivery.start(None)  # type: ignore[arg-type]
        await house.publish("a", 1)
        async with asyncio.timeout(20):
            while len(seen) < 2:
                await asyncio.sleep(0.005)
        assert seen == [0, 1]
        house.clock.advance(20)
        await house.delivery.settle(10)
        await house.empty()
        assert seen == [0, 1, 2]
        assert not house.log.dead("test/one")
        await house.delivery.stop()

    story(run)


def test_a_lane_however_long_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """More is postponed than one look sees: what comes behind it is delivered, in order, and the rest when it is due."""
    for name, value in (("WINDOW", 10), ("WINDOWS", 3), ("LONG", 30), ("SLOW_COMMIT_S", 5.0)):
        monkeypatch.setattr(lanes, name, value)

    async def run() -> None:
        seen: list[str] = []
        is_broken = True

        async def take(_cloud: Any, fact: Fact) -> None:
            if is_broken and fact["key"].startswith("bad"):
                raise OSError("the other side is away")
            seen.append(f"{fact['key']}.{fact['n']}")

        house = House(Consumer("test/one", take, patience=Patience(first_s=1000), parallel=4))
        house.delivery.start(None)  # type: ignore[arg-type]
        for number in range(200):
            await house.publish(f"bad{number}", 0)
            house.clock.advance(0.1)
        for number in range(1, 101):
            await house.publish("good" if number % 2 else f"bad{number}", number)
        async with asyncio.timeout(20):
            while len(seen) < 50:
                await asyncio.sleep(0.005)
        assert seen == [f"good.{number}" for number in range(1, 100, 2)]
        await house.publish("late", 1)
        async with asyncio.timeout(20):
            while seen[-1] != "late.1":
                await asyncio.sleep(0.005)
        is_broken = False
        house.clock.advance(1200)
        assert await house.delivery.settle(20)
        await house.empty()
        assert len(seen) == len(set(seen)) == 301
        assert all(seen.index(f"bad{number}.0") < seen.index(f"bad{number}.{number}") for number in range(2, 100, 2))
        await house.delivery.stop()

    story(run)


def test_a_log_that_is_read_slowly_delivers_nothing_twice() -> None:
    """What a reading in another thread found may have been delivered by the time it is looked at."""

    class Slow(EmbeddedLog):
        is_remote = True

        def read(self, consumer: str, lane: str, limit: int, after: str = "") -> list[Entry]:
            found = super().read(consumer, lane, limit, after)
            time.sleep(0.01)
            return found

    async def run() -> None:
        seen: list[int] = []

        async def take(_cloud: Any, fact: Fact) -> None:
            await asyncio.sleep(0.001)
            seen.append(fact["n"])

        house = House(Consumer("test/one", take))
        house.log = house.delivery.log = Slow(house.store, house.clock, Ids())
        house.delivery.start(None)  # type: ignore[arg-type]
        for number in range(200):
            await house.publish(f"k{number % 50}", number)
            await asyncio.sleep(0.001)
        await house.empty()
        assert sorted(seen) == list(range(200))
        await house.delivery.stop()

    story(run)
