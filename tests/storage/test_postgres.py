"""Several servers on one PostgreSQL: nobody overwrites anybody, everybody hears of changes, and a broken line loses nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from pilvi.core.errors import Unavailable
from pilvi.storage.records import Insert, Put, Records, Rows, Table
from pilvi.testing.peers import Postgres
from pilvi.testing.server import eventually

ROWS = Table("1", "r", "s", "Row")
OTHERS = Table("1", "r", "t", "Other")


@pytest.fixture
def two(postgres: Postgres) -> Iterator[tuple[Records, Records]]:
    from pilvi.storage.records.postgres import PostgresRecords

    first, second = PostgresRecords(postgres.url), PostgresRecords(postgres.url)
    first.clear()
    yield first, second
    first.close()
    second.close()


def test_updates_of_two_servers_lose_nothing(two: tuple[Records, Records]) -> None:
    Rows(two[0], ROWS).insert("counter", {"n": 0})

    def count(store: Records) -> None:
        for _ in range(40):
            Rows(store, ROWS).update("counter", lambda value: {"n": value["n"] + 1})

    threads = [threading.Thread(target=count, args=(store,)) for store in (*two, *two)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Rows(two[1], ROWS).get("counter") == {"n": 160}


def test_one_of_two_inserts_wins(two: tuple[Records, Records]) -> None:
    for number in range(20):
        futures = [store.submit([Insert(ROWS, f"k{number}", {"by": by})]) for by, store in enumerate(two)]
        errors = [future.exception(30) for future in futures]
        assert [error is None for error in errors].count(True) == 1


def test_many_keys_at_once_never_wait_in_a_circle(two: tuple[Records, Records]) -> None:
    def write(store: Records, step: int) -> None:
        for number in range(20):
            store.write(*[Put(ROWS, f"k{key * step % 97}", {"n": number}) for key in range(97)])

    threads = [threading.Thread(target=write, args=(store, step)) for store, step in zip((*two, *two), (1, -1, 5, -7), strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert len(two[0].scan(ROWS)) == 97


def test_a_generation_moves_for_other_servers(two: tuple[Records, Records]) -> None:
    first, second = two
    before = second.generation("s")
    other = second.generation("t")
    first.write(Put(ROWS, "x", {}))
    eventually(lambda: second.generation("s") != before)
    assert second.generation("t") == other
    before = first.generation("s")
    second.write(Put(ROWS, "x", {}))
    eventually(lambda: first.generation("s") != before)
    first.write(Put(OTHERS, "x", {}))
    eventually(lambda: second.generation("t") != other)


def test_tables_of_another_server_are_found(two: tuple[Records, Records]) -> None:
    table = Table("9", "r", "s", "New")
    assert two[1].get(table, "x") is None
    two[0].write(Put(table, "x", {"n": 1}))
    assert two[1].get(table, "x") is not None
    assert two[1].scan(table)[0].value == {"n": 1}


def test_what_was_acknowledged_survives_a_killed_postgres(postgres: Postgres, two: tuple[Records, Records]) -> None:
    """Writers go on over two crashes of the database; a write is done when it was said to be, and only then."""
    done: list[int] = []
    failed: list[int] = []
    ends = threading.Event()

    def work(worker: int) -> None:
        number = worker
        while not ends.is_set():
            number += 4
            try:
                two[worker % 2].write(Insert(ROWS, f"k{number:08}", {"n": number}))
                done.append(number)
            except Unavailable:
                failed.append(number)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        reached = len(done) + 50
        eventually(lambda reached=reached: len(done) > reached)
        postgres.stop("immediate")
        postgres.start()
    reached = len(done) + 50
    eventually(lambda: len(done) > reached)
    ends.set()
    for thread in threads:
        thread.join()
    found = {value["n"] for value in Rows(two[0], ROWS).all()}
    assert set(done) <= found
    assert not set(failed) & found
