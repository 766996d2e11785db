"""The transform program's own parts: paths into records, joins, and how files are split."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

SERVING = Path(__file__).parent.parent.parent.parent / "pilvi" / "runtimes" / "serving"


@pytest.fixture(scope="module")
def join() -> Any:
    return _module("pilvi_transform_join")


@pytest.fixture(scope="module")
def split() -> Any:
    return _module("pilvi_transform_split")


def _module(name: str) -> Any:
    sys.path.insert(0, str(SERVING))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(SERVING))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("$", {"id": 7, "v": [1, 2, 3], "in": {"a": 1, "b": 2}}),
        ("$.id", 7),
        ("$['v']", [1, 2, 3]),
        ("$.v[0]", 1),
        ("$.v[-1]", 3),
        ("$.v[0,-1]", [1, 3]),
        ("$.v[1:]", [2, 3]),
        ("$.v[:-1]", [1, 2]),
        ("$['id','v']", {"id": 7, "v": [1, 2, 3]}),
        ("$.in.*", [1, 2]),
        ("$.v[*]", [1, 2, 3]),
    ],
)
def test_paths_take_their_part(join: Any, path: str, expected: Any) -> None:
    assert join.Path(path).of({"id": 7, "v": [1, 2, 3], "in": {"a": 1, "b": 2}}) == expected


@pytest.mark.parametrize("path", ["id", "$.", "$..id", "$[?(@.a)]", "$['a"])
def test_paths_that_are_none(join: Any, path: str) -> None:
    with pytest.raises(join.Bad):
        join.Path(path)


@pytest.mark.parametrize("path", ["$.nothing", "$.v[9]", "$.id[0]"])
def test_paths_that_lead_nowhere(join: Any, path: str) -> None:
    with pytest.raises(join.Bad, match="has nothing at"):
        join.Path(path).of({"id": 7, "v": [1]})


def test_records_and_answers_must_be_as_many(join: Any) -> None:
    plan = join.plan_for({"JoinSource": "Input"}, "text/csv", "text/csv")
    with pytest.raises(join.Bad, match="answered 1 records for 2"):
        plan.out_of([b"1,2", b"3,4"], b"5\n")
    assert plan.out_of([b"1,2", b"3,4"], b"5\n6\n") == b"1,2,5\n3,4,6\n"


def test_json_that_is_no_object_is_wrapped(join: Any) -> None:
    plan = join.plan_for({"JoinSource": "Input"}, "application/json", "application/json")
    assert json.loads(plan.out_of([b"[1]"], b"[2]")) == {"SageMakerInput": [1], "SageMakerOutput": [2]}


def test_batches_are_whole_lines_within_the_payload(split: Any, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"".join(b"%d\n" % number for number in range(1000)) + b"last")
    found = list(split.batches(path, "Line", True, 100))
    assert b"".join(found) == path.read_bytes() + b"\n"
    assert max(map(len, found)) <= 101
    assert all(body.endswith(b"\n") for body in found)
    path.write_bytes(b"x" * 500)
    with pytest.raises(split.Bad, match="larger than MaxPayloadInMB"):
        list(split.batches(path, "Line", True, 100))


def test_records_of_other_splits(split: Any, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"one\r\n\ntwo\n")
    assert list(split.batches(path, "Line", False, 100)) == [b"one", b"two"]
    assert list(split.batches(path, "None", False, 100)) == [b"one\r\n\ntwo\n"]
    path.write_bytes(b"")
    assert list(split.batches(path, "None", False, 100)) == []
    path.write_bytes(b"this is no RecordIO")
    with pytest.raises(split.Bad, match="RecordIO"):
        list(split.batches(path, "RecordIO", True, 100))
