"""The records contract against every adapter."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilvi.storage.records import Records
from pilvi.storage.records.memory import MemoryRecords
from pilvi.storage.records.sqlite import SqliteRecords
from pilvi.testing.contracts.records import CONTRACT
from pilvi.testing.peers import Missing, Postgres

ADAPTERS: dict[str, Callable[[Path], Records]] = {
    "memory": lambda _: MemoryRecords(),
    "sqlite": lambda folder: SqliteRecords(folder / "records.db"),
    "sqlite-shared": lambda folder: SqliteRecords(folder / "records.db", shared=True),
    "sqlite-copied": lambda folder: SqliteRecords(
        folder / "records.db", copies=(folder / "b" / "records.db", folder / "c" / "records.db")
    ),
}


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'psycopg[binary]'")
    with tempfile.TemporaryDirectory(prefix="pilvi-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        try:
            running = Postgres(Path(folder) / "postgres")
        except Missing as error:
            pytest.skip(str(error))
        yield running
        running.stop()


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
