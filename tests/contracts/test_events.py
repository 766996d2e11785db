"""The event log's contract against every adapter."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from pilvi.core.ids import Ids
from pilvi.events import Log
from pilvi.events.embedded import EmbeddedLog
from pilvi.storage.records import Records
from pilvi.storage.records.memory import MemoryRecords
from pilvi.storage.records.sqlite import SqliteRecords
from pilvi.testing.contracts.events import CONTRACT
from pilvi.testing.virtual_clock import VirtualClock

ADAPTERS: dict[str, Callable[[Path], tuple[Log, Records]]] = {
    "embedded-memory": lambda _: embedded(MemoryRecords()),
    "embedded-sqlite": lambda folder: embedded(SqliteRecords(folder / "records.db")),
    "embedded-sqlite-shared": lambda folder: embedded(SqliteRecords(folder / "records.db", shared=True)),
}


def embedded(store: Records) -> tuple[Log, Records]:
    return EmbeddedLog(store, VirtualClock(), Ids()), store


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Log, Records]]:
    log, store = ADAPTERS[request.param](tmp_path)
    yield log, store
    store.close()


@pytest.mark.parametrize("promise", CONTRACT, ids=lambda promise: promise.__name__)
def test_adapter_keeps(promise: Callable[[Log, Records], Awaitable[None]], adapter: tuple[Log, Records]) -> None:
    async def story() -> None:
        await promise(*adapter)

    asyncio.run(story())
