"""The event log's contract against every adapter."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pilvi.core.ids import Ids
from pilvi.events import Log
from pilvi.events.embedded import EmbeddedLog
from pilvi.events.nats import NatsLog
from pilvi.events.nats_stream import Message, Place
from pilvi.storage.keyring import Keyring
from pilvi.storage.records import Records
from pilvi.storage.records.memory import MemoryRecords
from pilvi.storage.records.sqlite import SqliteRecords
from pilvi.testing.contracts.events import CONTRACT
from pilvi.testing.peers import Missing, Nats
from pilvi.testing.virtual_clock import VirtualClock

ADAPTERS: dict[str, Callable[[Path, pytest.FixtureRequest], tuple[Log, Records]]] = {
    "embedded-memory": lambda _folder, _request: embedded(MemoryRecords()),
    "embedded-sqlite": lambda folder, _request: embedded(SqliteRecords(folder / "records.db")),
    "embedded-sqlite-shared": lambda folder, _request: embedded(SqliteRecords(folder / "records.db", shared=True)),
    "nats-sqlite": lambda folder, request: nats(
        SqliteRecords(folder / "records.db"), folder, request.getfixturevalue("nats_server")
    ),
}


def embedded(store: Records) -> tuple[Log, Records]:
    return EmbeddedLog(store, VirtualClock(), Ids()), store


def nats(store: Records, folder: Path, server: Nats) -> tuple[Log, Records]:
    clock = VirtualClock()
    return NatsLog(Place.parse(server.url), store, clock, Ids(), Keyring(folder / "keys" / "master.key")), store


@pytest.fixture(scope="module")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    try:
        running = Nats(tmp_path_factory.mktemp("nats"))
    except Missing as error:
        pytest.skip(str(error))
    yield running
    running.kill()


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Log, Records]]:
    log, store = ADAPTERS[request.param](tmp_path, request)
    yield log, store
    log.close()
    store.close()


@pytest.mark.parametrize("promise", CONTRACT, ids=lambda promise: promise.__name__)
def test_adapter_keeps(promise: Callable[[Log, Records], Awaitable[None]], adapter: tuple[Log, Records]) -> None:
    async def story() -> None:
        await promise(*adapter)

    asyncio.run(story())


def test_two_servers_carry_the_same_outbox_to_one_stream(nats_server: Nats, tmp_path: Path) -> None:
    """What both publish is there once, in order, and leaves the outbox once."""
    stores = [SqliteRecords(tmp_path / "records.db", shared=True) for _ in range(2)]
    logs = [nats(store, tmp_path, nats_server)[0] for store in stores]
    long = "x" * 1_200_000
    for number in range(40):
        fact = {"n": number, "text": long if number % 20 == 0 else ""}
        stores[0].write(logs[0].recording("test/listener", "lane", f"k{number % 3}", fact))
    with ThreadPoolExecutor(8) as pool:
        readings = list(pool.map(lambda number: logs[number % 2].read("test/listener", "lane", 100), range(16)))
    for entries in (readings[-1], logs[0].read("test/listener", "lane", 100), logs[1].read("test/listener", "lane", 100)):
        assert [entry.fact["n"] for entry in entries] == list(range(40))
        assert [len(entry.fact["text"]) for entry in entries if entry.fact["text"]] == [len(long)] * 2
    assert logs[0].status()["outbox"] == 0
    for log, store in zip(logs, stores, strict=True):
        log.close()
        store.close()


def test_what_a_stranger_publishes_to_the_stream_holds_up_nobody(nats_server: Nats, tmp_path: Path) -> None:
    store = SqliteRecords(tmp_path / "records.db")
    log = nats(store, tmp_path, nats_server)[0]
    assert isinstance(log, NatsLog)
    assert log.read("test/listener", "lane", 10) == []
    strange = [Message(f"{log.stream.name}.test/listener.lane", f"strange{number}", b"no fact") for number in range(3)]
    log.stream.call(lambda client: log.stream.publish(client, strange))
    store.write(log.recording("test/listener", "lane", "k", {"n": 1}))
    assert [entry.fact for entry in log.read("test/listener", "lane", 10)] == [{"n": 1}]
    log.close()
    store.close()
