"""What every Records adapter promises. Each function takes an empty store and proves one promise; `CONTRACT` lists them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from pilvi.core.errors import AlreadyExists, Conflict, Invalid, NotFound, PilviError
from pilvi.storage.records import Delete, DeleteBody, Expect, Insert, Put, PutBody, Records, Rows, Table, Update, new_body_name

PEOPLE = Table("123456789012", "us-east-1", "club", "Person")
ROOMS = Table("123456789012", "us-east-1", "club", "Room")
ELSEWHERE = Table("210987654321", "eu-west-1", "club", "Person")
OTHER = Table("123456789012", "us-east-1", "shop", "Person")
IDS = ["", "A", "a", "a/b", "a/c", "a0", "ab", "b", "z", "~", "é", "éa", "Ā", "中", "\uffff", "😀", "\U0010ffff", "\U0010ffffz"]


def refuses(error: type[PilviError], call: Callable[[], object]) -> PilviError:
    """The error a call raises, which must be of exactly this kind."""
    try:
        call()
    except error as raised:
        if type(raised) is error:
            return raised
        raise
    raise AssertionError(f"{error.__name__} was not raised")


def values_come_back_equal_and_separate(store: Records) -> None:
    value: dict[str, Any] = {
        "none": None,
        "flags": [True, False],
        "numbers": [0, -1, 2**63 - 1, -(2**63), 1.5, float("inf")],
        "text": "Grüße, 世界 😀\x00\n",
        "bytes": bytes(range(256)),
        "empty": [{}, [], "", b""],
        "when": datetime(2026, 2, 3, 4, 5, 6, 789012, tzinfo=UTC),
        "early": datetime(1912, 4, 15, tzinfo=UTC),
        "nested": {"a": [{"b": {"c": [1, [2, [3]]]}}]},
    }
    store.write(Insert(PEOPLE, "x", value))
    value["nested"]["a"].append("changed after the write")
    row = store.get(PEOPLE, "x")
    assert row is not None
    assert row.value.pop("nested") == {"a": [{"b": {"c": [1, [2, [3]]]}}]}
    del value["nested"]
    assert row.value == value
    assert row.value["when"].utcoffset() == timedelta(0)
    assert [type(item) for item in row.value["flags"]] == [bool, bool]
    row.value["text"] = "changed after the read"
    again = store.get(PEOPLE, "x")
    assert again is not None
    assert again.value["text"] == value["text"]


def a_datetime_of_any_offset_stays_the_same_instant(store: Records) -> None:
    when = datetime(2026, 5, 1, 12, 0, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    store.write(Put(PEOPLE, "x", {"when": when}))
    assert Rows(store, PEOPLE).get("x")["when"] == when


def a_value_that_cannot_be_kept_is_refused_whole(store: Records) -> None:
    refuses(Invalid, lambda: store.write(Put(PEOPLE, "good", {}), Put(PEOPLE, "x", {"number": 2**70})))
    refuses(Invalid, lambda: store.write(Put(PEOPLE, "good", {}), Put(PEOPLE, "\ud800", {})))
    assert store.scan(PEOPLE) == []


def insert_refuses_a_taken_id(store: Records) -> None:
    store.write(Insert(PEOPLE, "x", {"n": 1}))
    error = refuses(AlreadyExists, lambda: store.write(Insert(PEOPLE, "x", {"n": 2})))
    assert "Person x" in error.message
    assert Rows(store, PEOPLE).get("x") == {"n": 1}
    store.write(Delete(PEOPLE, "x"))
    store.write(Insert(PEOPLE, "x", {"n": 3}))


def put_creates_and_replaces(store: Records) -> None:
    store.write(Put(PEOPLE, "x", {"n": 1}))
    store.write(Put(PEOPLE, "x", {"n": 2}))
    row = store.get(PEOPLE, "x")
    assert row == ("x", {"n": 2}, 2)


def update_needs_the_version_that_was_read(store: Records) -> None:
    store.write(Insert(PEOPLE, "x", {"n": 1}))
    store.write(Update(PEOPLE, "x", {"n": 2}, 1))
    refuses(Conflict, lambda: store.write(Update(PEOPLE, "x", {"n": 3}, 1)))
    refuses(Conflict, lambda: store.write(Update(PEOPLE, "gone", {"n": 3}, 1)))
    refuses(Conflict, lambda: store.write(Update(PEOPLE, "x", {"n": 3}, 3)))
    assert store.get(PEOPLE, "x") == ("x", {"n": 2}, 2)


def delete_wants_something_to_delete(store: Records) -> None:
    refuses(NotFound, lambda: store.write(Delete(PEOPLE, "x")))
    store.write(Put(PEOPLE, "x", {}))
    refuses(Conflict, lambda: store.write(Delete(PEOPLE, "x", 2)))
    refuses(NotFound, lambda: store.write(Delete(PEOPLE, "y", 2)))
    store.write(Delete(PEOPLE, "x", 1))
    assert store.get(PEOPLE, "x") is None
    refuses(NotFound, lambda: store.write(Delete(PEOPLE, "x")))


def expect_changes_nothing_but_may_fail(store: Records) -> None:
    store.write(Expect(PEOPLE, "x", 0), Insert(ROOMS, "r", {}))
    store.write(Put(PEOPLE, "x", {}))
    refuses(Conflict, lambda: store.write(Expect(PEOPLE, "x", 0), Put(ROOMS, "s", {})))
    refuses(Conflict, lambda: store.write(Put(ROOMS, "s", {}), Expect(PEOPLE, "x", 2)))
    refuses(Conflict, lambda: store.write(Put(ROOMS, "s", {}), Expect(PEOPLE, "y", 1)))
    assert store.get(ROOMS, "s") is None
    store.write(Expect(PEOPLE, "x", 1), Put(ROOMS, "s", {}))
    assert store.get(PEOPLE, "x") == ("x", {}, 1)


def a_transaction_is_all_or_nothing(store: Records) -> None:
    store.write(Put(PEOPLE, "old", {"n": 1}), PutBody("kept", b"k"))
    refuses(
        AlreadyExists,
        lambda: store.write(
            Insert(PEOPLE, "new", {}),
            Delete(PEOPLE, "old"),
            PutBody("b", b"1"),
            DeleteBody("kept"),
            Insert(ROOMS, "r", {}),
            Insert(PEOPLE, "new", {}),
        ),
    )
    assert [row.id for row in store.scan(PEOPLE)] == ["old"]
    assert store.scan(ROOMS) == []
    assert list(store.body_names()) == ["kept"]


def changes_of_a_transaction_see_those_before_them(store: Records) -> None:
    store.write(Insert(PEOPLE, "x", {"n": 1}), Update(PEOPLE, "x", {"n": 2}, 1), Put(PEOPLE, "x", {"n": 3}))
    assert store.get(PEOPLE, "x") == ("x", {"n": 3}, 3)
    store.write(Delete(PEOPLE, "x"), Insert(PEOPLE, "x", {"n": 4}))
    assert store.get(PEOPLE, "x") == ("x", {"n": 4}, 1)
    store.write(Insert(PEOPLE, "y", {}), Delete(PEOPLE, "y", 1))
    assert store.get(PEOPLE, "y") is None
    store.write()


def a_scan_follows_utf8_order_within_its_bounds(store: Records) -> None:
    store.write(*[Put(PEOPLE, id, {"id": id}) for id in reversed(IDS)], Put(ELSEWHERE, "a", {}), Put(ROOMS, "a", {}))
    ordered = sorted(IDS, key=str.encode)
    assert [row.id for row in store.scan(PEOPLE)] == ordered
    assert [row.id for row in store.scan(PEOPLE, reverse=True)] == ordered[::-1]
    for prefix in ("", "a", "a/", "é", "\ud7ff", "\uffff", "\U0010ffff", "\U0010ffff\U0010ffff"):
        for after in ("", "A", "a", "a/b", "ab", "é", "😀"):
            for before in ("", "a", "ac", "z", "中", "\U0010ffff"):
                wanted = [
                    id for id in ordered if id.startswith(prefix) and (not after or id > after) and (not before or id < before)
                ]
                found = store.scan(PEOPLE, prefix=prefix, after=after, before=before)
                assert [row.id for row in found] == wanted
                assert all(row.value == {"id": row.id} and row.version == 1 for row in found)
                backwards = store.scan(PEOPLE, prefix=prefix, after=after, before=before, reverse=True, limit=3)
                assert [row.id for row in backwards] == wanted[::-1][:3]
                assert [row.id for row in store.scan(PEOPLE, prefix=prefix, after=after, before=before, limit=2)] == wanted[:2]


def paging_reaches_every_row_once(store: Records) -> None:
    rows = Rows(store, PEOPLE)
    for start in range(0, 25, 5):
        store.write(*[Put(PEOPLE, f"p{number:03}", {"n": number}) for number in range(start, start + 5)])
    seen, token = [], None
    while True:
        values, token = rows.page(token, 7)
        seen += [value["n"] for value in values]
        if token is None:
            break
        assert len(values) == 7
    assert seen == list(range(25))
    assert rows.page(None, 25)[1] is None
    assert [value["n"] for value in rows.all(prefix="p01")] == list(range(10, 20))
    refuses(Invalid, lambda: rows.page("not-a-token", 7))


def tables_lists_those_with_rows(store: Records) -> None:
    assert store.tables() == []
    store.write(Put(PEOPLE, "x", {}), Put(ROOMS, "x", {}), Put(ELSEWHERE, "x", {}), Put(OTHER, "x", {}))
    assert sorted(store.tables()) == sorted([PEOPLE, ROOMS, ELSEWHERE, OTHER])
    assert sorted(store.tables(service="club", noun="Person")) == sorted([PEOPLE, ELSEWHERE])
    assert store.tables(service="shop") == [OTHER]
    store.write(Delete(OTHER, "x"))
    assert store.tables(service="shop") == []
    assert store.scan(OTHER) == []


def bodies_are_kept_beside(store: Records) -> None:
    refuses(NotFound, lambda: store.body("b"))
    large = bytes(range(256)) * 400
    store.write(PutBody("b", b"small"), PutBody("large", large), PutBody("file", None), PutBody("empty", b""))
    assert store.body("b") == b"small"
    assert store.body("large") == large
    assert store.body("file") is None
    assert store.body("empty") == b""
    assert sorted(store.body_names()) == ["b", "empty", "file", "large"]
    store.write(PutBody("b", b"again"), DeleteBody("file"), DeleteBody("never was"))
    assert store.body("b") == b"again"
    refuses(NotFound, lambda: store.body("file"))
    store.write(PutBody("twice", b"1"), DeleteBody("twice"))
    store.write(DeleteBody("b"), PutBody("b", b"third"))
    assert store.body("b") == b"third"
    assert sorted(store.body_names()) == ["b", "empty", "large"]


def numbered_bodies_are_bodies_like_others(store: Records) -> None:
    first, second, third = new_body_name(), new_body_name(), new_body_name()
    assert len({first, second, third}) == 3
    strange = ["#", "#0", "#000000000000000g", "#00000000000000AB", "#ffffffffffffffff", "# 00000000000001f", "x" + first[1:]]
    store.write(
        PutBody(first, b"1"), PutBody(second, b"2" * 30_000), PutBody(third, None), *[PutBody(name, b"s") for name in strange]
    )
    assert store.body(first) == b"1"
    assert store.body(second) == b"2" * 30_000
    assert store.body(third) is None
    assert [store.body(name) for name in strange] == [b"s"] * len(strange)
    assert sorted(store.body_names()) == sorted([first, second, third, *strange])
    assert list(store.body_names(blobs_only=True)) == [third]
    store.write(PutBody(first, b"again"), DeleteBody(second), DeleteBody(third), *[DeleteBody(name) for name in strange])
    assert store.body(first) == b"again"
    refuses(NotFound, lambda: store.body(second))
    refuses(NotFound, lambda: store.body(third))
    assert list(store.body_names()) == [first]


def a_generation_moves_with_its_service(store: Records) -> None:
    club, shop = store.generation("club"), store.generation("shop")
    store.write(Put(PEOPLE, "x", {}))
    assert store.generation("club") != club
    assert store.generation("shop") == shop
    club = store.generation("club")
    store.write(PutBody("b", b""), Put(OTHER, "x", {}))
    assert store.generation("club") == club
    refuses(AlreadyExists, lambda: store.write(Insert(PEOPLE, "x", {})))
    store.write(Delete(PEOPLE, "x"))
    assert store.generation("club") != club
    shop = store.generation("shop")
    store.clear()
    assert store.generation("shop") != shop


def clear_leaves_nothing(store: Records) -> None:
    store.write(Put(PEOPLE, "x", {}), Put(OTHER, "x", {}), PutBody("b", b"1"))
    store.clear()
    assert store.tables() == []
    assert store.get(PEOPLE, "x") is None
    assert list(store.body_names()) == []
    store.write(Insert(PEOPLE, "x", {}))
    assert store.get(PEOPLE, "x") == ("x", {}, 1)


def submit_ends_with_the_result_or_the_error(store: Records) -> None:
    futures = [store.submit([Insert(PEOPLE, f"p{number % 10}", {"n": number})]) for number in range(20)]
    errors = [future.exception(timeout=10) for future in futures]
    assert errors[:10] == [None] * 10
    assert [type(error) for error in errors[10:]] == [AlreadyExists] * 10
    assert len(store.scan(PEOPLE)) == 10


def commit_wakes_the_event_loop(store: Records) -> None:
    async def story() -> None:
        async def one(number: int) -> str:
            try:
                await store.commit([Insert(PEOPLE, f"p{number % 10}", {"n": number}), PutBody(f"b{number}", b"x")])
            except AlreadyExists:
                return "taken"
            assert store.get(PEOPLE, f"p{number}") is not None
            return "new"

        answers = await asyncio.gather(*[one(number) for number in range(30)])
        assert answers == ["new"] * 10 + ["taken"] * 20
        abandoned = asyncio.ensure_future(one(1))
        await asyncio.sleep(0)
        abandoned.cancel()
        assert await one(2) == "taken"

    asyncio.run(story())
    assert len(list(store.body_names())) == 10


def concurrent_updates_lose_nothing(store: Records) -> None:
    rows = Rows(store, PEOPLE)
    rows.insert("counter", {"n": 0})
    failures: list[BaseException] = []

    def count() -> None:
        try:
            for _ in range(25):
                rows.update("counter", lambda value: {"n": value["n"] + 1})
        except BaseException as error:  # noqa: BLE001 - shown by the thread that waits
            failures.append(error)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert rows.get("counter") == {"n": 100}
    row = rows.row("counter")
    assert row is not None
    assert row.version == 101


def rows_update_may_refuse_or_edit_in_place(store: Records) -> None:
    rows = Rows(store, PEOPLE)
    refuses(NotFound, lambda: rows.update("x", lambda value: value))
    rows.insert("x", {"n": 1})

    def edit(value: dict[str, Any]) -> None:
        value["n"] += 1

    def refuse(_: dict[str, Any]) -> None:
        raise Invalid("no")

    assert rows.update("x", edit) == {"n": 2}
    refuses(Invalid, lambda: rows.update("x", refuse))
    assert rows.get("x") == {"n": 2}
    assert rows.find("y") is None
    refuses(NotFound, lambda: rows.get("y"))
    rows.delete("x")
    refuses(NotFound, lambda: rows.delete("x"))


CONTRACT: list[Callable[[Records], None]] = [
    values_come_back_equal_and_separate,
    a_datetime_of_any_offset_stays_the_same_instant,
    a_value_that_cannot_be_kept_is_refused_whole,
    insert_refuses_a_taken_id,
    put_creates_and_replaces,
    update_needs_the_version_that_was_read,
    delete_wants_something_to_delete,
    expect_changes_nothing_but_may_fail,
    a_transaction_is_all_or_nothing,
    changes_of_a_transaction_see_those_before_them,
    a_scan_follows_utf8_order_within_its_bounds,
    paging_reaches_every_row_once,
    tables_lists_those_with_rows,
    bodies_are_kept_beside,
    numbered_bodies_are_bodies_like_others,
    a_generation_moves_with_its_service,
    clear_leaves_nothing,
    submit_ends_with_the_result_or_the_error,
    commit_wakes_the_event_loop,
    concurrent_updates_lose_nothing,
    rows_update_may_refuse_or_edit_in_place,
]
