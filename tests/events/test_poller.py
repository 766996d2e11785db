"""The poller against a source in memory: batches, windows, filters, failures, growth."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from pilvi.core.errors import Denied, PilviError
from pilvi.events import poller
from pilvi.events.patterns import compile_pattern
from pilvi.events.poller import Busy, Poller, Record, Settings, fits


class Shelf:
    """A source that is a list."""

    most = 10
    most_at_once = 1000

    def __init__(self, bodies: Sequence[str] = ()) -> None:
        self.waiting = [record(number, body) for number, body in enumerate(bodies)]
        self.removed: list[str] = []
        self.refusals = 0
        self.arrived = asyncio.Event()

    async def receive(self, many: int, wait_s: float) -> list[Record]:
        if self.refusals:
            self.refusals -= 1
            raise Denied("no")
        if not self.waiting:
            self.arrived.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await self.arrived.wait()
            except TimeoutError:
                return []
        found, self.waiting = self.waiting[:many], self.waiting[many:]
        return found

    async def remove(self, records: Sequence[Record]) -> None:
        self.removed += [record.handle for record in records]

    def held_s(self) -> float:
        return 5.0

    def put(self, *records: Record) -> None:
        self.waiting += records
        self.arrived.set()


def record(number: int, body: str = "x", size: int = 100) -> Record:
    return Record({"messageId": str(number), "body": body}, str(number), size)


def run(coroutine: Any) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 20))


async def until(true: Any) -> None:
    while not true():
        await asyncio.sleep(0.005)


def test_a_record_that_arrives_is_handled_at_once():
    async def story() -> None:
        shelf, seen = Shelf(), []

        async def handle(records: Sequence[Record]) -> Sequence[Record]:
            seen.append([one.handle for one in records])
            return ()

        one = Poller(shelf, Settings(), handle)
        one.start()
        await asyncio.sleep(0.01)
        shelf.put(record(1), record(2))
        await until(lambda: shelf.removed)
        assert seen == [["1", "2"]]
        assert shelf.removed == ["1", "2"]
        await one.stop()
        assert (one.counts.polled, one.counts.handled, one.counts.removed) == (2, 2, 2)

    run(story())


def test_a_window_gathers_more_than_one_call_gives():
    async def story() -> None:
        shelf, sizes = Shelf(["x"] * 25), []

        async def handle(records: Sequence[Record]) -> Sequence[Record]:
            sizes.append(len(records))
            return ()

        one = Poller(shelf, Settings(batch_size=20, window_s=0.1), handle)
        one.start()
        await until(lambda: len(shelf.removed) == 25)
        assert sizes == [20, 5]
        await one.stop()

    run(story())


def test_what_failed_is_not_removed():
    async def story() -> None:
        shelf = Shelf(["a", "b", "c"])

        async def handle(records: Sequence[Record]) -> Sequence[Record]:
            return records[1:2]

        one = Poller(shelf, Settings(), handle)
        one.start()
        await until(lambda: shelf.removed)
        assert shelf.removed == ["0", "2"]
        await one.stop()

    run(story())


def test_what_raises_removes_nothing_and_is_told():
    async def story() -> None:
        shelf, told = Shelf(["a"]), []

        async def handle(records: Sequence[Record]) -> Sequence[Record]:
            raise Denied("not you")

        one = Poller(shelf, Settings(), handle, told.append)
        one.start()
        await until(lambda: told)
        assert shelf.removed == []
        assert isinstance(told[0], PilviError)
        await one.stop()

    run(story())


def test_patterns_remove_what_does_not_fit():
    async def story() -> None:
        shelf, seen = Shelf(['{"kind": "cat"}', '{"kind": "dog"}', "cat"]), []

        async def handle(records: Sequence[Record]) -> Sequence[Record]:
            seen.extend(one.handle for one in records)
            return ()

        patterns = (compile_pattern({"body": {"kind": ["cat"]}}),)
        one = Poller(shelf, Settings(patterns=patterns), handle)
        one.start()
        await until(lambda: len(shelf.removed) == 3)
        assert seen == ["0"]
        assert one.counts.filtered == 2
        await one.stop()

    run(story())


def test_plain_patterns_fit_no_json_and_the_other_way_round():
    plain, shaped = compile_pattern({"body": ["cat"]}), compile_pattern({"body": {"a": [1]}})
    assert fits([plain], {"body": "cat"})
    assert not fits([plain], {"body": json.dumps({"cat": 1})})
    assert not fits([shaped], {"body": "cat"})
    assert fits([plain, shaped], {"body": '{"a": 1}'})
    assert not fits([shaped], {"body": "{broken"})


def test_a_busy_handler_gets_the_same_batch_again():
    async def story() -> None:
        shelf, tries = Shelf(["a"]), []

        async def handle(records: Sequence[Record]) -> Sequence[Record]:
            tries.append(len(records))
            if len(tries) < 3:
                raise Busy("full")
            return ()

        one = Poller(shelf, Settings(), handle)
        one.start()
        await until(lambda: shelf.removed)
        assert tries == [1, 1, 1]
        await one.stop()

    run(story())


def test_batches_are_split_where_a_payload_would_be_too_large():
    async def story() -> None:
        shelf, sizes = Shelf(), []
        shelf.waiting = [record(number, size=3 << 20) for number in range(3)]

        async def handle(records: Sequence[Record]) -> Sequence[Record]:
            sizes.append(len(records))
            return ()

        one = Poller(shelf, Settings(), handle)
        one.start()
        await until(lambda: len(shelf.removed) == 3)
        assert sizes == [2, 1]
        await one.stop()

    run(story())


def test_no_more_run_side_by_side_than_is_set(monkeypatch):
    monkeypatch.setattr(poller, "GROWTH_S", 0.01)

    async def story() -> None:
        shelf, now, most = Shelf(["x"] * 40), [0], [0]

        async def handle(records: Sequence[Record]) -> Sequence[Record]:
            now[0] += 1
            most[0] = max(most[0], now[0])
            await asyncio.sleep(0.05)
            now[0] -= 1
            return ()

        one = Poller(shelf, Settings(batch_size=1, most_at_once=2), handle)
        one.start()
        await until(lambda: len(shelf.removed) == 40)
        assert most[0] == 2
        await one.stop()

        shelf, most[0] = Shelf(["x"] * 40), 0
        one = Poller(shelf, Settings(batch_size=1), handle)
        one.start()
        await until(lambda: len(shelf.removed) == 40)
        assert most[0] > poller.FIRST
        await one.stop()

    run(story())


def test_a_source_that_refuses_is_asked_again(monkeypatch):
    monkeypatch.setattr(poller, "PAUSE_S", (0.01, 0.02))

    async def story() -> None:
        shelf, told = Shelf(["a"]), []
        shelf.refusals = 2

        async def handle(records: Sequence[Record]) -> Sequence[Record]:
            return ()

        one = Poller(shelf, Settings(), handle, told.append)
        one.start()
        await until(lambda: shelf.removed)
        assert [type(one) for one in told] == [Denied, Denied, type(None)]
        await one.stop()

    run(story())


def test_stop_waits_for_what_is_under_way():
    async def story() -> None:
        shelf, done = Shelf(["a"]), []

        async def handle(records: Sequence[Record]) -> Sequence[Record]:
            await asyncio.sleep(0.05)
            done.append(1)
            return ()

        one = Poller(shelf, Settings(), handle)
        one.start()
        await asyncio.sleep(0.01)
        await one.stop()
        assert done == [1]
        assert shelf.removed == ["0"]
        shelf.put(record(9))
        await asyncio.sleep(0.02)
        assert shelf.waiting == [record(9)]

    run(story())
