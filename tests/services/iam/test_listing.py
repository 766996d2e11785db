"""Pages never lose, repeat or reorder anything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilvi.core.errors import Invalid
from pilvi.services.iam.listing import page, rows_after, sorted_after
from pilvi.storage.records import Insert, Rows, Table
from pilvi.storage.records.memory import MemoryRecords

NAMES = st.sets(st.text("abcxyz0189+=,.@_-", min_size=1, max_size=12), max_size=30)
TABLE = Table("1", "", "iam", "User")


def walk(pairs_after, size):
    marker, found = None, []
    while True:
        answer = page({"MaxItems": size, **({"Marker": marker} if marker else {})}, "Things", pairs_after)
        assert len(answer["Things"]) <= size
        found += answer["Things"]
        marker = answer.get("Marker")
        assert answer["IsTruncated"] is (marker is not None)
        if marker is None:
            return found


@given(NAMES, st.integers(1, 8))
def test_pages_of_a_mapping_are_the_whole(names, size):
    held = {name: name for name in names}
    assert walk(lambda after: sorted_after(held, after), size) == sorted(names)


@given(NAMES, st.integers(1, 8))
def test_pages_of_rows_are_the_whole(names, size):
    store = MemoryRecords()
    if names:
        store.write(*[Insert(TABLE, name, {"name": name}) for name in names])
    rows = Rows(store, TABLE)
    assert walk(lambda after: ((id, value["name"]) for id, value in rows_after(rows, after)), size) == sorted(names)


def test_rows_are_fetched_in_strides():
    store = MemoryRecords()
    names = [f"{number:04d}" for number in range(450)]
    store.write(*[Insert(TABLE, name, {}) for name in names])
    assert [id for id, _ in rows_after(Rows(store, TABLE), "")] == names


def test_a_foreign_marker_is_refused():
    with pytest.raises(Invalid):
        page({"Marker": "what is this"}, "Things", lambda after: sorted_after({}, after))
