"""Random stories against every records adapter, with a dict as the model."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pilvi.core.errors import AlreadyExists, Conflict, NotFound, PilviError
from pilvi.storage.records import Change, Delete, DeleteBody, Expect, Insert, Put, PutBody, Records, Table, Update
from pilvi.storage.records.memory import MemoryRecords
from pilvi.storage.records.sqlite import SqliteRecords

TABLES = [Table("1", "r", "s", "A"), Table("2", "r", "t", "A")]
IDS = st.text(alphabet="ab/é中\uffff😀\U0010ffff", max_size=3)
VALUES = st.dictionaries(
    st.text(max_size=2), st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=4), max_size=2
)
NAMES = st.sampled_from(["x", "y", "#0000000000000001", "#0000000000000002"])
VERSIONS = st.integers(0, 3)
CHANGES = st.one_of(
    st.builds(Insert, st.sampled_from(TABLES), IDS, VALUES),
    st.builds(Put, st.sampled_from(TABLES), IDS, VALUES),
    st.builds(Update, st.sampled_from(TABLES), IDS, VALUES, VERSIONS),
    st.builds(Delete, st.sampled_from(TABLES), IDS, st.none() | VERSIONS),
    st.builds(Expect, st.sampled_from(TABLES), IDS, VERSIONS),
    st.builds(PutBody, NAMES, st.none() | st.binary(max_size=3)),
    st.builds(DeleteBody, NAMES),
)

Model = tuple[dict[tuple[Table, str], tuple[dict[str, Any], int]], dict[str, bytes | None]]


def apply(model: Model, changes: Sequence[Change]) -> type[PilviError] | None:
    """The port's words, as literally as can be: change a copy, keep it when nothing refused."""
    rows, bodies = dict(model[0]), dict(model[1])
    for change in changes:
        if isinstance(change, PutBody):
            bodies[change.name] = change.data
            continue
        if isinstance(change, DeleteBody):
            bodies.pop(change.name, None)
            continue
        key = (change.table, change.id)
        _, version = rows.get(key, ({}, 0))
        match change:
            case Insert() if version:
                return AlreadyExists
            case Update(version=wanted) if not version or version != wanted:
                return Conflict
            case Expect(version=wanted) if version != wanted:
                return Conflict
            case Delete() if not version:
                return NotFound
            case Delete(version=wanted) if wanted is not None and wanted != version:
                return Conflict
            case Delete():
                del rows[key]
            case Insert(value=value) | Put(value=value) | Update(value=value):
                rows[key] = (value, version + 1)
    model[0].clear()
    model[0].update(rows)
    model[1].clear()
    model[1].update(bodies)
    return None


class Story(RuleBasedStateMachine):
    """Writes of one or many changes, alone or queued up together; after each, every view agrees with the model."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = self.open()
        self.model: Model = ({}, {})

    def open(self) -> Records:
        return MemoryRecords()

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    @rule(batch=st.lists(st.lists(CHANGES, max_size=4), min_size=1, max_size=6))
    def submit(self, batch: list[list[Change]]) -> None:
        futures = [self.store.submit(changes) for changes in batch]
        for changes, future in zip(batch, futures, strict=True):
            error = future.exception(timeout=10)
            assert (None if error is None else type(error)) == apply(self.model, changes)

    @rule(prefix=IDS, after=IDS, before=IDS, limit=st.integers(1, 4), reverse=st.booleans(), table=st.sampled_from(TABLES))
    def scan(self, prefix: str, after: str, before: str, limit: int, reverse: bool, table: Table) -> None:
        wanted = sorted(
            (id for owner, id in self.model[0] if owner == table and id.startswith(prefix)), key=str.encode, reverse=reverse
        )
        wanted = [id for id in wanted if (not after or id > after) and (not before or id < before)][:limit]
        found = self.store.scan(table, prefix=prefix, after=after, before=before, limit=limit, reverse=reverse)
        assert [(row.id, (row.value, row.version)) for row in found] == [(id, self.model[0][table, id]) for id in wanted]

    @rule(table=st.sampled_from(TABLES), id=IDS)
    def get(self, table: Table, id: str) -> None:
        row = self.store.get(table, id)
        assert (None if row is None else (row.value, row.version)) == self.model[0].get((table, id))

    @rule()
    def clear(self) -> None:
        self.store.clear()
        self.model[0].clear()
        self.model[1].clear()

    @invariant()
    def everything_agrees(self) -> None:
        found = {(table, row.id): (row.value, row.version) for table in self.store.tables() for row in self.store.scan(table)}
        assert found == self.model[0]
        assert {name: self.store.body(name) for name in self.store.body_names()} == self.model[1]
        assert sorted(self.store.body_names(blobs_only=True)) == sorted(
            name for name, data in self.model[1].items() if data is None
        )


class SqliteStory(Story):
    def open(self) -> Records:
        return SqliteRecords(Path(self.folder.name) / "records.db")

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = self.open()


TestMemoryStory = Story.TestCase
TestMemoryStory.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
TestSqliteStory = SqliteStory.TestCase
TestSqliteStory.settings = settings(
    max_examples=12, stateful_step_count=15, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
