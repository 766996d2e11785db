"""What only the SQLite store promises: durability settings, formats, bounds, other processes, failures of the disk."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from pilvi.core.errors import AlreadyExists, NotFound, Unavailable
from pilvi.storage.records import Delete, DeleteBody, Insert, Put, PutBody, Row, Table, new_body_name
from pilvi.storage.records import sqlite_writer as writer_module
from pilvi.storage.records.cache import ROW_BYTES, RecordCache
from pilvi.storage.records.sqlite import FORMAT, SqliteRecords
from pilvi.testing.server import is_compiled

PEOPLE = Table("123456789012", "us-east-1", "club", "Person")


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    store = SqliteRecords(tmp_path / "r.db")
    name = new_body_name()
    store.write(Insert(PEOPLE, "x", {"n": 1}), PutBody(name, b"body"))
    store.close()
    store.close()
    again = SqliteRecords(tmp_path / "r.db")
    assert again.get(PEOPLE, "x") == Row("x", {"n": 1}, 1)
    assert again.body(name) == b"body"
    again.write(PutBody(new_body_name(), b"other"))
    assert again.body(name) == b"body"
    again.close()
    assert stat.S_IMODE(os.stat(tmp_path / "r.db").st_mode) == 0o600


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = SqliteRecords(tmp_path / "r.db")
    store.close()
    with pytest.raises(Unavailable):
        store.write(Put(PEOPLE, "x", {}))
    with pytest.raises(Unavailable):
        store.body("x")

    async def late() -> None:
        with pytest.raises(Unavailable):
            await store.commit([Put(PEOPLE, "x", {})])

    asyncio.run(late())


def test_close_finishes_what_was_submitted(tmp_path: Path) -> None:
    store = SqliteRecords(tmp_path / "r.db")
    futures = [store.submit([Insert(PEOPLE, str(number), {})]) for number in range(200)]
    store.close()
    assert [future.result(timeout=0) for future in futures] == [None] * 200


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    SqliteRecords(tmp_path / "r.db").close()
    with sqlite3.connect(tmp_path / "r.db") as connection:
        connection.execute("UPDATE format SET version = ?", (FORMAT + 1,))
    connection.close()
    with pytest.raises(Unavailable, match=f"newer Pilvi .format {FORMAT + 1}"):
        SqliteRecords(tmp_path / "r.db")


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.db").write_bytes(b"not a database, but long enough to look at" * 100)
    with pytest.raises(Unavailable, match="cannot be opened"):
        SqliteRecords(tmp_path / "r.db")


def test_commits_are_synced(tmp_path: Path) -> None:
    store = SqliteRecords(tmp_path / "r.db")
    connection = store._connect(64)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    connection.close()
    store.close()


def test_the_wal_does_not_grow_without_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "CHECKPOINT_PAGES", 100)
    store = SqliteRecords(tmp_path / "r.db")
    largest = 0
    for _ in range(60):
        for future in [store.submit([PutBody(new_body_name(), bytes(30_000))]) for _ in range(10)]:
            future.result()
        largest = max(largest, os.path.getsize(tmp_path / "r.db-wal"))
    assert largest < 600 * 30_000 / 2
    store.close()


def test_reads_hold_no_snapshot(tmp_path: Path) -> None:
    store = SqliteRecords(tmp_path / "r.db")
    store.write(*[Put(PEOPLE, str(number), {}) for number in range(10)], PutBody("b", b"1"))
    store.get(PEOPLE, "1")
    store.scan(PEOPLE, limit=3)
    store.body("b")
    next(iter(store.body_names()))
    connection = store._connect(64)
    assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    connection.close()
    store.close()


def test_another_process_is_noticed_when_shared(tmp_path: Path) -> None:
    one, two = SqliteRecords(tmp_path / "r.db", shared=True), SqliteRecords(tmp_path / "r.db", shared=True)
    before, other = one.generation("club"), one.generation("shop")
    assert one.get(PEOPLE, "x") is None
    two.write(Put(PEOPLE, "x", {"n": 1}))
    assert one.generation("club") != before
    assert one.generation("shop") == other
    assert one.get(PEOPLE, "x") == Row("x", {"n": 1}, 1)
    one.write(Put(PEOPLE, "x", {"n": 2}))
    assert two.get(PEOPLE, "x") == Row("x", {"n": 2}, 2)
    with pytest.raises(AlreadyExists):
        two.write(Insert(PEOPLE, "x", {}))
    one.close()
    two.close()


def test_a_reader_beside_the_server_sees_its_writes(tmp_path: Path) -> None:
    server = SqliteRecords(tmp_path / "r.db")
    server.write(Put(PEOPLE, "x", {"n": 1}))
    visitor = SqliteRecords(tmp_path / "r.db")
    assert visitor.get(PEOPLE, "x") == Row("x", {"n": 1}, 1)
    visitor.close()
    server.write(Put(PEOPLE, "x", {"n": 2}))
    server.close()


def test_a_full_disk_fails_the_write_and_nothing_else(tmp_path: Path) -> None:
    store = SqliteRecords(tmp_path / "r.db")
    store.write(Put(PEOPLE, "x", {"n": 1}))
    limit = store.submit([PutBody("large", bytes(1000))])
    limit.result()
    store._writer._connection.execute("PRAGMA max_page_count=20")
    with pytest.raises(Unavailable, match="cannot write"):
        store.write(Put(Table("1", "r", "new", "Table"), "y", {}), PutBody("larger", bytes(1_000_000)))
    assert store.get(PEOPLE, "x") == Row("x", {"n": 1}, 1)
    assert store.tables() == [PEOPLE]
    store._writer._connection.execute("PRAGMA max_page_count=1000000")
    store.write(Put(Table("1", "r", "new", "Table"), "y", {}), PutBody("larger", bytes(1_000_000)))
    assert len(store.tables()) == 2
    store.close()


@pytest.mark.skipif(is_compiled(writer_module), reason="reaches into a module that is compiled here")
def test_a_fault_of_our_own_fails_the_write_and_not_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqliteRecords(tmp_path / "r.db")
    with monkeypatch.context() as patch:
        patch.setattr(store._writer, "_versions", lambda keys: 1 / 0)
        with pytest.raises(Unavailable, match="division"):
            store.write(Put(PEOPLE, "x", {}))
    store.write(Insert(PEOPLE, "x", {}))
    store.close()


def test_the_cache_is_bounded_and_refuses_stale_offers() -> None:
    cache: RecordCache[tuple[Table, str]] = RecordCache()
    for number in range(20_000):
        cache.offer((PEOPLE, str(number)), (1, bytes(ROW_BYTES)), cache.ticket)
    assert cache._bytes <= 8 << 20
    assert cache._bytes == sum(len(data) for _, data in cache._rows.values())
    assert cache.find((PEOPLE, "19999")) is not None
    assert cache.find((PEOPLE, "0")) is None
    ticket = cache.ticket
    cache.committed({})
    cache.offer((PEOPLE, "late"), (1, b"old"), ticket)
    assert cache.find((PEOPLE, "late")) is None
    cache.committed({(PEOPLE, "19999"): (2, bytes(ROW_BYTES + 1)), (PEOPLE, "19998"): None, (PEOPLE, "19997"): (2, b"x")})
    assert cache.find((PEOPLE, "19999")) is None
    assert cache.find((PEOPLE, "19998")) == (0, b"")
    assert cache.find((PEOPLE, "19997")) == (2, b"x")
    assert cache._bytes == sum(len(data) for _, data in cache._rows.values())
    cache.forget([(PEOPLE, "19997"), (PEOPLE, "never")])
    assert cache.find((PEOPLE, "19997")) is None
    assert cache._bytes == sum(len(data) for _, data in cache._rows.values())


def test_a_row_looked_at_is_the_same_object_until_it_is_written(tmp_path: Path) -> None:
    store = SqliteRecords(tmp_path / "r.db")
    assert store.peek(PEOPLE, "x") is None
    store.write(Put(PEOPLE, "x", {"n": 1}))
    row = store.get(PEOPLE, "x")
    seen = store.peek(PEOPLE, "x")
    assert row is not None
    assert seen[0] == row.version
    assert store.peek(PEOPLE, "x") is seen
    store.write(Put(PEOPLE, "y", {"n": 1}))
    assert store.peek(PEOPLE, "x") is seen
    store.write(Put(PEOPLE, "x", {"n": 1}))
    again = store.peek(PEOPLE, "x")
    assert again is not seen
    assert again[1] == seen[1]
    store.write(Delete(PEOPLE, "x"))
    assert store.peek(PEOPLE, "x")[0] == 0
    store.close()


def test_bodies_read_lately_are_at_hand_and_go_with_what_deletes_them(tmp_path: Path) -> None:
    store = SqliteRecords(tmp_path / "r.db")
    names = [new_body_name() for _ in range(300)]
    for name in names:
        store.write(PutBody(name, name.encode() * 3800))
    for name in (*names, names[-1]):
        assert store.body(name) == name.encode() * 3800
    assert 0 < store._larger._bytes <= 12 << 20
    assert store._larger.find(names[-1]) is not None
    assert store._bodies._bytes == 0
    store.write(DeleteBody(names[-1]))
    with pytest.raises(NotFound):
        store.body(names[-1])
    store.clear()
    assert store._larger._bytes == 0
    store.close()


def test_readers_never_see_less_than_was_acknowledged(tmp_path: Path) -> None:
    store = SqliteRecords(tmp_path / "r.db")
    store.write(Put(PEOPLE, "x", {"n": 0}))
    acknowledged = [0]
    failures: list[str] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            least = acknowledged[0]
            row = store.get(PEOPLE, "x")
            if row is None or row.value["n"] < least:
                failures.append(f"{row} after {least}")

    readers = [threading.Thread(target=read) for _ in range(1)]
    for reader in readers:
        reader.start()
    for number in range(1, 60):
        store.write(Put(PEOPLE, "x", {"n": number}))
        acknowledged[0] = number
        if number % 10 == 0:
            store._cache.clear()
    done.set()
    for reader in readers:
        reader.join()
    assert failures == []
    store.close()
