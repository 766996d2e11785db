"""S3 Select without a server: the grammar takes any text, blocks lose no record, the engine is closed."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilvi.core.errors import ServiceError
from pilvi.services.s3.select import check_installed
from pilvi.services.s3.select_plan import Output, Planner, csv_scope, json_scope, parquet_scope, quoted
from pilvi.services.s3.select_sql import KEYWORDS, parse

pytest.importorskip("duckdb", reason="the extra pilvi[select] is not installed")
pytest.importorskip("pyarrow", reason="the extra pilvi[select] is not installed")

from pilvi.services.s3 import select_input
from pilvi.services.s3.select_engine import Engine
from pilvi.services.s3.select_input import (
    Csv,
    Progress,
    Window,
    blocks,
    csv_tables,
    document_tables,
    json_table,
    last_cut,
    plain,
    ragged_tables,
    slices,
    windowed,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PLAIN = Csv("NONE", ",", "\n", '"', '"', "", True)
WORDS = [
    *sorted(KEYWORDS),
    *[
        "s3object",
        "s",
        "_1",
        "name",
        "CAST(",
        "COUNT(*)",
        "SUM(",
        "TRIM(",
        "LEADING",
        "EXTRACT(",
        "year",
        "INT",
        "(",
        ")",
        ",",
        ".",
        "[",
        "]",
        "*",
        "=",
        "<",
        "1",
        "2.5",
        "'x'",
        '"y"',
        "`2007T`",
    ],
]


@given(st.text() | st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join))
@settings(max_examples=400, deadline=None)
def test_any_text_is_a_query_or_refused(text: str) -> None:
    """And what is a query becomes SQL that the engine takes or refuses by a code."""
    for sql in (text, f"SELECT {text} FROM S3Object s", f"SELECT * FROM S3Object s WHERE {text}"):
        with suppress(ServiceError):
            planner = Planner(parse(sql), Output(False), NOW)
            for scope in (csv_scope(2, ["name", "x"]), json_scope(()), parquet_scope(["name", "_1"])):
                planner.partial(scope) if planner.aggregates else planner.records(scope, 1)


@given(st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join))
@settings(max_examples=100, deadline=None)
def test_queries_run_or_are_refused_by_a_code(text: str) -> None:
    engine = Engine()
    table = next(ragged_tables(b"a,1\nb,2\n", PLAIN))
    for sql in (f"SELECT {text} FROM S3Object s", f"SELECT * FROM S3Object s WHERE {text}"):
        with suppress(ServiceError):
            planner = Planner(parse(sql), Output(True), NOW)
            scope = csv_scope(2, ["name", "x"])
            engine.row(table, planner.partial(scope) if planner.aggregates else planner.records(scope, 1))
    engine.close()


fields = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), max_size=6)


@given(st.lists(st.lists(fields, min_size=1, max_size=4), max_size=12), st.integers(1, 7))
@settings(max_examples=200, deadline=None)
def test_csv_reads_back_as_it_was_written(rows: list[list[str]], size: int) -> None:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
    data = out.getvalue().encode()
    with patch.object(select_input, "BLOCK_BYTES", 16):
        tables = list(csv_tables(blocks(pieces(data, size), b"\n", b'"', Progress()), PLAIN))
    found = [[value for value in row.values() if value is not None] for table in tables for row in table.to_pylist()]
    assert [row for row in found if row] == rows


@given(st.binary(max_size=300), st.integers(1, 50), st.sampled_from(["GZIP", "BZIP2"]), st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_compressed_bytes_come_out_whole(data: bytes, size: int, kind: str, more: int) -> None:
    press = gzip.compress if kind == "GZIP" else bz2.compress
    pressed = press(data) + press(b"again") * more
    with patch.object(select_input, "BLOCK_BYTES", 7):
        assert b"".join(plain(pieces(pressed, size), kind)) == data + b"again" * more
        with pytest.raises(ServiceError, match="TruncatedInput"):
            list(plain(pieces(pressed[:-3], size), kind))


@given(st.lists(st.integers(0, 99_999), min_size=1, max_size=40), st.integers(0, 200), st.integers(0, 200), st.integers(1, 9))
@settings(max_examples=300, deadline=None)
def test_windows_share_out_every_record_once(numbers: list[int], first: int, second: int, size: int) -> None:
    for delimiter in (b"\n", b"\r\n"):
        data = b"".join(b"%d%s" % (number, delimiter) for number in numbers)
        cuts = sorted({0, min(first, len(data)), min(second, len(data))})
        shares = []
        for start, end in zip(cuts, [*(cut - 1 for cut in cuts[1:]), len(data)], strict=True):
            at = max(start - len(delimiter), 0)
            shares.append(b"".join(windowed(pieces(data[at:], size), at, Window(start, end), delimiter)))
        assert b"".join(shares) == data


@given(
    st.lists(st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=3), max_size=6), st.integers(1, 9)
)
@settings(max_examples=100, deadline=None)
def test_documents_are_found_wherever_they_are_cut(documents: list[dict[str, Any]], size: int) -> None:
    data = "".join(json.dumps(document, ensure_ascii=bool(len(documents) % 2)) for document in documents).encode(errors="replace")
    found = [row["j"] for table in document_tables(pieces(data, size), Progress()) for row in table.to_pylist()]
    assert [json.loads(text) for text in found] == json.loads(f"[{','.join(found)}]")
    assert len(found) == len(documents)


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT content FROM read_text('/etc/passwd')",
        "SELECT * FROM glob('/*')",
        "COPY (SELECT 1) TO '/tmp/pilvi-select-test'",
        "ATTACH '/tmp/pilvi-select-test.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "SELECT * FROM NOW",
    ],
)
def test_the_engine_has_no_way_out(statement: str) -> None:
    engine = Engine()
    with pytest.raises(ServiceError) as refused:
        engine.row(json_table([]), statement)
    assert refused.value.status == 400
    engine.close()


def test_literals_stay_literals() -> None:
    engine = Engine()
    for text in ("'; DROP TABLE block; --", "\\'", "''", "$$", "a\nb", "\u2028"):
        assert engine.row(json_table([]), f"SELECT {quoted(text)}") == (text,)
    engine.close()


def test_without_the_engine_select_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ServiceError, match=r"pip install 'pilvi\[select\]'") as refused:
        check_installed()
    assert (refused.value.code, refused.value.status) == ("NotImplemented", 501)


@given(st.text(st.sampled_from('a\n"'), max_size=30), st.sampled_from(['"', ""]))
def test_a_block_is_cut_behind_its_last_whole_record(text: str, quote: str) -> None:
    data = text.encode()
    ends = [at + 1 for at in range(len(data)) if data[at : at + 1] == b"\n" and (not quote or data.count(b'"', 0, at) % 2 == 0)]
    assert last_cut(data, b"\n", quote.encode()) == max(ends, default=0)


def test_an_open_quotation_mark_before_many_lines_costs_one_look_at_them() -> None:
    assert last_cut(b'"' + b"\n" * (4 << 20), b"\n", b'"') == 0  # took hours when each line counted the marks before it


def test_one_wide_record_among_many_narrow_ones_stays_small() -> None:
    data = b"x\n" * 50_000 + b"," * 9_000 + b"\n" + b"x\n" * 50_000
    tables = list(ragged_tables(data, PLAIN))
    assert sum(table.num_rows for table in tables) == 100_001
    assert max(table.num_rows * table.num_columns for table in tables) <= select_input.CELLS + 9_001
    with pytest.raises(ServiceError) as caught:
        list(csv_tables(iter([b"," * 1_000_000 + b"\n"]), PLAIN))
    assert caught.value.code == "OverMaxColumn"


@pytest.mark.parametrize(("shape", "depth"), [("({} BETWEEN _1 AND 3)", 40), ("NULLIF({}, _2)", 40), ("({} IN (1, 2, 3))", 40)])
def test_what_is_said_twice_on_every_level_is_refused(shape: str, depth: int) -> None:
    expression = "_1"
    for _ in range(depth):
        expression = shape.replace("{}", expression)
    for scope in (csv_scope(2, None), json_scope(())):
        with pytest.raises(ServiceError) as caught:
            Planner(parse(f"SELECT {expression} FROM S3Object s"), Output(False), NOW).records(scope, 1)
        assert caught.value.code == "ExpressionTooLong"


def test_an_answer_larger_than_its_records_is_made_in_pieces() -> None:
    table = next(ragged_tables((b"a" * 999 + b"\n") * 4000, PLAIN))
    parts = list(slices(table, 1000))
    assert sum(part.num_rows for part in parts) == 4000
    assert max(part.nbytes for part in parts) * 1000 <= select_input.ANSWER_BYTES
    with pytest.raises(ServiceError) as caught:
        list(slices(table.slice(0, 1), 100_000))
    assert caught.value.code == "OverMaxRecordSize"
