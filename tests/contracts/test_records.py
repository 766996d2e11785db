"""The records contract against every adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilvi.storage.records import Records
from pilvi.storage.records.memory import MemoryRecords
from pilvi.storage.records.sqlite import SqliteRecords
from pilvi.testing.contracts.records import CONTRACT

ADAPTERS: dict[str, Callable[[Path], Records]] = {
    "memory": lambda _: MemoryRecords(),
    "sqlite": lambda folder: SqliteRecords(folder / "records.db"),
    "sqlite-shared": lambda folder: SqliteRecords(folder / "records.db", shared=True),
    "sqlite-copied": lambda folder: SqliteRecords(
        folder / "records.db", copies=(folder / "b" / "records.db", folder / "c" / "records.db")
    ),
}


@pytest.fixture(params=[*ADAPTERS, "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Records]:
    if request.param == "postgres":
        from pilvi.storage.records.postgres import PostgresRecords

        store: Records = PostgresRecords(request.getfixturevalue("postgres").url)
        store.clear()
    else:
        store = ADAPTERS[request.param](tmp_path)
    yield store
    store.close()


@pytest.mark.parametrize("promise", CONTRACT, ids=lambda promise: promise.__name__)
def test_adapter_keeps(promise: Callable[[Records], None], store: Records) -> None:
    promise(store)
