"""S3 Select: CSV, JSON and Parquet objects asked by SQL, through boto3's event streams."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from botocore.exceptions import EventStreamError

from pilvi.testing.server import Account
from tests.services.s3.conftest import refused

pytest.importorskip("duckdb", reason="the extra pilvi[select] is not installed")
pyarrow = pytest.importorskip("pyarrow", reason="the extra pilvi[select] is not installed")

PEOPLE = 'name,age,city\nAda,36,London\nGrace,85,New York\nAlan,41,"Wilmslow, UK"\nKurt,,Princeton\n'
HEADED = {"CSV": {"FileHeaderInfo": "USE"}}
LINES = {"JSON": {"Type": "LINES"}}
Ask = Callable[..., str]


@pytest.fixture
def ask(s3: Any, bucket: str) -> Ask:
    """`ask(sql, body, input, output)` -> the records as text."""

    def select(sql: str, body: bytes | str, given: Any = None, output: Any = None, **more: Any) -> str:
        s3.put_object(Bucket=bucket, Key="o", Body=body)
        return records(events(s3, bucket, "o", sql, given, output, **more))

    return select


def events(s3: Any, bucket: str, key: str, sql: str, given: Any = None, output: Any = None, **more: Any) -> list[dict[str, Any]]:
    answer = s3.select_object_content(
        Bucket=bucket,
        Key=key,
        Expression=sql,
        ExpressionType="SQL",
        InputSerialization=given or HEADED,
        OutputSerialization=output or {"CSV": {}},
        **more,
    )
    with closing(answer["Payload"]) as stream:
        return list(stream)


def records(found: list[dict[str, Any]]) -> str:
    assert "End" in found[-1]
    assert "Stats" in found[-2]
    return b"".join(event["Records"]["Payload"] for event in found if "Records" in event).decode()


# -- CSV ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT * FROM S3Object", 'Ada,36,London\nGrace,85,New York\nAlan,41,"Wilmslow, UK"\nKurt,,Princeton\n'),
        ("select s.name from s3object s where s.city = 'London'", "Ada\n"),
        ("SELECT s._1, s.AGE FROM S3Object[*] AS s WHERE CAST(s.age AS INT) > 40 AND s.name <> 'Kurt' LIMIT 1", "Grace,85\n"),
        ("SELECT name FROM S3Object WHERE age > 40", "Grace\nAlan\n"),
        ("SELECT s.\"name\" AS n FROM S3Object s WHERE s.city LIKE '%UK'", "Alan\n"),
        ("SELECT name FROM S3Object WHERE city NOT LIKE '%n%'", "Grace\nAlan\n"),
        ("SELECT name FROM S3Object WHERE name IN ('Ada', 'Alan') AND NOT age BETWEEN 40 AND 50", "Ada\n"),
        ("SELECT COUNT(*), MIN(name), MAX(name) FROM S3Object", "4,Ada,Kurt\n"),
        ("SELECT SUM(CAST(age AS INT)), AVG(CAST(age AS INT)) FROM S3Object WHERE age <> ''", "162,54.0\n"),
        ("SELECT COUNT(*) FROM S3Object s WHERE s.name = 'nobody'", "0\n"),
        ("SELECT UPPER(name) || '!', CHAR_LENGTH(city), SUBSTRING(name, 2, 2) FROM S3Object LIMIT 1", "ADA!,6,da\n"),
        ("SELECT SUBSTRING(name FROM 2 FOR 1), TRIM(LEADING 'A' FROM name), TRIM('  x ') FROM S3Object LIMIT 1", "d,da,x\n"),
        ("SELECT CASE WHEN age = '' THEN 'none' ELSE age END FROM S3Object", "36\n85\n41\nnone\n"),
        ("SELECT COALESCE(NULLIF(age, ''), 'none') FROM S3Object LIMIT 9", "36\n85\n41\nnone\n"),
        ("SELECT name FROM S3Object WHERE _9 IS MISSING LIMIT 1", "Ada\n"),
        ("SELECT CAST(age AS DECIMAL(5, 1)) * 2 FROM S3Object LIMIT 1", "72.0\n"),
        ("SELECT EXTRACT(YEAR FROM TO_TIMESTAMP('1969-07-20T20:17:40Z')) FROM S3Object LIMIT 1", "1969\n"),
        (
            "SELECT TO_STRING(DATE_ADD(month, 1, `1969-07-20T20:17Z`), 'MMMM d, y h:mm a') FROM S3Object LIMIT 1",
            '"August 20, 1969 8:17 PM"\n',
        ),
        (
            "SELECT DATE_DIFF(day, `2010-01-01T23:00Z`, `2010-01-02T01:00Z`), DATE_DIFF(year, `2010T`, `2015T`) FROM S3Object LIMIT 1",
            "0,5\n",
        ),
        ("SELECT name FROM S3Object LIMIT 0", ""),
    ],
)
def test_select_from_csv(ask: Ask, sql: str, expected: str) -> None:
    assert ask(sql, PEOPLE) == expected


def test_headers_are_used_ignored_or_none(ask: Ask) -> None:
    assert ask("SELECT _1 FROM S3Object LIMIT 1", PEOPLE, {"CSV": {}}) == "name\n"
    assert ask("SELECT _1 FROM S3Object LIMIT 1", PEOPLE, {"CSV": {"FileHeaderInfo": "IGNORE"}}) == "Ada\n"
    output = {"JSON": {}}
    assert ask("SELECT * FROM S3Object LIMIT 1", PEOPLE, HEADED, output) == '{"name":"Ada","age":"36","city":"London"}\n'
    assert ask("SELECT * FROM S3Object LIMIT 1", PEOPLE, {"CSV": {}}, output) == '{"_1":"name","_2":"age","_3":"city"}\n'
    assert (
        ask("SELECT name, CAST(age AS INT) years, 1 FROM S3Object LIMIT 1", PEOPLE, HEADED, output)
        == '{"name":"Ada","years":36,"_3":1}\n'
    )


def test_csv_with_other_marks(ask: Ask) -> None:
    body = "#note\n'a;1';b\r\n#more\n'it\\'s';d\n"
    marks = {"CSV": {"FieldDelimiter": ";", "QuoteCharacter": "'", "QuoteEscapeCharacter": "\\"}}
    assert ask("SELECT * FROM S3Object", body, marks) == "a;1,b\nit's,d\n"
    assert ask("SELECT _2 FROM S3Object", "a,b|c,d|", {"CSV": {"RecordDelimiter": "|"}}) == "b\nd\n"
    broken = 'a,"b\nc"\nd,"e ""f"""\n'
    breaks = {"CSV": {"AllowQuotedRecordDelimiter": True}}
    assert ask("SELECT _2 FROM S3Object", broken, breaks) == '"b\nc"\n"e ""f"""\n'
    output = {"CSV": {"QuoteFields": "ALWAYS", "FieldDelimiter": "\t", "RecordDelimiter": "|", "QuoteCharacter": "'"}}
    assert ask("SELECT * FROM S3Object LIMIT 1", PEOPLE, HEADED, output) == "'Ada'\t'36'\t'London'|"


def test_ragged_records_keep_what_they_have(ask: Ask) -> None:
    assert ask("SELECT * FROM S3Object", "a\nb,c,d\n\ne,f\n", {"CSV": {}}) == "a\nb,c,d\ne,f\n"
    assert ask("SELECT _1 FROM S3Object WHERE _3 IS NULL", "a\nb,c,d\n\ne,f\n", {"CSV": {}}) == "a\ne\n"


def test_compressed_objects(ask: Ask) -> None:
    sql = "SELECT COUNT(*) FROM S3Object"
    assert ask(sql, gzip.compress(PEOPLE.encode()), {**HEADED, "CompressionType": "GZIP"}) == "4\n"
    twice = gzip.compress(PEOPLE.encode()) + gzip.compress(b"Emmy,53,Erlangen\n")
    assert ask(sql, twice, {**HEADED, "CompressionType": "GZIP"}) == "5\n"
    assert ask(sql, bz2.compress(PEOPLE.encode()), {**HEADED, "CompressionType": "BZIP2"}) == "4\n"


def test_scan_ranges_take_the_records_that_begin_in_them(ask: Ask) -> None:
    rows = [f"{number:04},{'x' * (number % 7)}" for number in range(200)]
    body = "".join(f"{row}\n" for row in rows)
    starts = [body.index(row) for row in rows]
    for window in ({"Start": 0, "End": 99}, {"Start": 100, "End": 300}, {"Start": starts[20], "End": starts[40]}, {"Start": 1500}):
        low, high = window["Start"], window.get("End", len(body))
        expected = "".join(f"{row[:4]}\n" for row, start in zip(rows, starts, strict=True) if low <= start <= high)
        assert ask("SELECT _1 FROM S3Object", body, {"CSV": {}}, ScanRange=window) == expected
    assert ask("SELECT _1 FROM S3Object", body, {"CSV": {}}, ScanRange={"End": 20}).split() == ["0198", "0199"]
    headed = f"id,x\n{body}"
    assert ask("SELECT id FROM S3Object LIMIT 1", headed, HEADED, ScanRange={"Start": 100}) > "0010"


def test_many_blocks_give_the_same_as_one(s3: Any, bucket: str) -> None:
    rows = [[str(number), f"name {number % 97}", "long, text " * 4] for number in range(160_000)]
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([["id", "name", "text"], *rows])
    body = out.getvalue().encode()
    s3.put_object(Bucket=bucket, Key="big", Body=body)
    found = events(s3, bucket, "big", "SELECT id FROM S3Object WHERE name = 'name 5'", RequestProgress={"Enabled": True})
    assert records(found).split() == [row[0] for row in rows if row[1] == "name 5"]
    stats = found[-2]["Stats"]["Details"]
    assert (stats["BytesScanned"], stats["BytesProcessed"]) == (len(body), len(body))
    assert stats["BytesReturned"] == len(records(found))
    assert any("Progress" in event for event in found)
    whole = events(s3, bucket, "big", "SELECT COUNT(*), SUM(CAST(id AS INT)), AVG(CAST(id AS INT)) FROM S3Object")
    assert records(whole) == "160000,12799920000,79999.5\n"
    limited = events(s3, bucket, "big", "SELECT * FROM S3Object LIMIT 5")
    assert limited[-2]["Stats"]["Details"]["BytesScanned"] < len(body)


# -- JSON -----------------------------------------------------------------------------------------------------------------

LOG = [
    {"id": 1, "user": {"name": "ada", "tags": ["x", "y"]}, "ok": True, "size": 10.5},
    {"id": 2, "user": {"name": "gr\u00fc\u00df", "tags": []}, "ok": False, "size": None},
    {"id": "3", "user": None},
]
LOG_LINES = "".join(json.dumps(line) + "\n" for line in LOG)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT * FROM S3Object", LOG),
        ("SELECT s.id, s.user.name FROM S3Object s WHERE s.ok = TRUE", [{"id": 1, "name": "ada"}]),
        ("SELECT s.user.tags[1] AS t FROM S3Object[*] s WHERE s.id < 2", [{"t": "y"}]),
        ("SELECT s.id FROM S3Object s WHERE s.size IS NULL AND s.size IS NOT MISSING", [{"id": 2}]),
        ("SELECT s.size FROM S3Object s", [{"size": 10.5}, {"size": None}, {}]),
        ("SELECT s.id FROM S3Object s WHERE s.id = '3'", [{"id": "3"}]),
        ("SELECT COUNT(*) AS n, SUM(s.size) AS total, MAX(s.id) FROM S3Object s", [{"n": 3, "total": 10.5, "_3": 2.0}]),
        ("SELECT s.user.tags FROM S3Object s LIMIT 1", [{"tags": ["x", "y"]}]),
        ("SELECT s['user'].\"name\" FROM S3Object s WHERE s.user.name LIKE 'gr%'", [{"name": "gr\u00fc\u00df"}]),
        ("SELECT * FROM S3Object[*].user.tags[*]", [{"_1": "x"}, {"_1": "y"}]),
        ("SELECT id FROM S3Object[*].id", [{"id": 1}, {"id": 2}, {"id": "3"}]),
    ],
)
def test_select_from_json_lines(ask: Ask, sql: str, expected: list[Any]) -> None:
    assert [json.loads(line) for line in ask(sql, LOG_LINES, LINES, {"JSON": {}}).splitlines()] == expected


def test_select_from_json_documents(ask: Ask) -> None:
    rules = {"Rules": [{"id": "1"}, {"expr": "y > x"}, {"id": "2", "expr": "z = DEBUG"}]}
    body = json.dumps(rules, indent=2) + json.dumps({"Rules": [{"id": "3"}]}) + "\n"
    document = {"JSON": {"Type": "DOCUMENT"}}
    found = ask("SELECT id FROM S3Object[*].Rules[*].id", body, document, {"JSON": {}})
    assert [json.loads(line) for line in found.splitlines()] == [{"id": "1"}, {}, {"id": "2"}, {"id": "3"}]
    assert ask("SELECT r.expr FROM S3Object[*].Rules[*] r WHERE r.id = '2'", body, document) == "z = DEBUG\n"
    assert ask("SELECT * FROM S3Object[*][*] r", '[{"a": 1, "b": "x,y"}, {"a": 2}]', document) == '1,"x,y"\n2\n'


# -- Parquet --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def parquet() -> bytes:
    import pyarrow.parquet as pq

    rows = range(10_000)
    table = pyarrow.table(
        {
            "id": pyarrow.array(rows, pyarrow.int64()),
            "price": pyarrow.array([number / 4 for number in rows]),
            "name": [f"n{number % 10}" for number in rows],
            "place": [{"city": f"c{number % 3}"} for number in rows],
            "text": [str(number**5) for number in rows],
            "maybe": [None if number % 2 else "even" for number in rows],
        }
    )
    out = io.BytesIO()
    pq.write_table(table, out, row_group_size=2500)
    return out.getvalue()


def test_select_from_parquet(s3: Any, bucket: str, ask: Ask, parquet: bytes) -> None:
    given, output = {"Parquet": {}}, {"JSON": {}}
    assert ask("SELECT COUNT(*), SUM(id), AVG(price) FROM S3Object", parquet, given) == "10000,49995000,1249.875\n"
    found = ask("SELECT s.id, s.name, s.place.city, s.maybe FROM S3Object s WHERE s.id IN (3, 9998)", parquet, given, output)
    assert [json.loads(line) for line in found.splitlines()] == [
        {"id": 3, "name": "n3", "city": "c0", "maybe": None},
        {"id": 9998, "name": "n8", "city": "c2", "maybe": "even"},
    ]
    assert ask("SELECT id, price FROM S3Object WHERE name = 'n7' LIMIT 2", parquet, given) == "7,1.75\n17,4.25\n"
    narrow = events(s3, bucket, "o", "SELECT id FROM S3Object WHERE id < 2", given)
    assert narrow[-2]["Stats"]["Details"]["BytesScanned"] < len(parquet)
    assert refused_select(s3, bucket, "SELECT nix FROM S3Object", given)["Code"] == "MissingHeaders"


# -- refusals -------------------------------------------------------------------------------------------------------------


def refused_select(s3: Any, bucket: str, sql: str, given: Any = None, output: Any = None, **more: Any) -> dict[str, Any]:
    parameters = {"ExpressionType": "SQL", "InputSerialization": given or HEADED, "OutputSerialization": output or {"CSV": {}}}
    return refused(s3.select_object_content, Bucket=bucket, Key="o", Expression=sql, **{**parameters, **more})


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("SELECT", "ParseEmptySelect"),
        ("SELECT FROM S3Object", "ParseEmptySelect"),
        ("SELECT name", "ParseSelectMissingFrom"),
        ("SELECT *, name FROM S3Object", "ParseAsteriskIsNotAloneInSelectList"),
        ("SELECT name FROM other", "ParseUnexpectedToken"),
        ("SELECT name FROM read_csv('/etc/passwd')", "ParseUnexpectedToken"),
        ("SELECT read_text('/etc/passwd') FROM S3Object", "UnsupportedFunction"),
        ("SELECT * FROM S3Object; DROP TABLE x", "LexerInvalidChar"),
        ("SELECT name FROM S3Object ORDER BY name", "ParseUnsupportedSyntax"),
        ("SELECT name, COUNT(*) FROM S3Object GROUP BY name", "ParseUnsupportedSyntax"),
        ("SELECT name FROM (SELECT * FROM S3Object)", "ParseUnsupportedSelect"),
        ("SELECT name FROM S3Object WHERE name = (SELECT 1)", "ParseUnsupportedSelect"),
        ("SELECT name, COUNT(*) FROM S3Object", "UnsupportedSqlStructure"),
        ("SELECT name FROM S3Object WHERE COUNT(*) > 1", "UnsupportedSqlStructure"),
        ("SELECT CAST(name, INT) FROM S3Object", "ParseCastArity"),
        ("SELECT CAST(name AS BLOB) FROM S3Object", "ParseExpectedTypeName"),
        ("SELECT LOWER(name, age) FROM S3Object", "EvaluatorInvalidArguments"),
        ("SELECT DATE_ADD(week, 1, name) FROM S3Object", "ParseExpectedDatePart"),
        ("SELECT name FROM S3Object LIMIT x", "ParseExpectedNumber"),
        ("SELECT nix FROM S3Object", "MissingHeaders"),
        ("UPDATE S3Object SET name = 1", "ParseUnsupportedSyntax"),
        ("SELECT " + "(" * 200 + "1" + ")" * 200 + " FROM S3Object", "ExpressionTooLong"),
        ("SELECT 1 " + "+ 1 " * 20_000 + "FROM S3Object", "ExpressionTooLong"),
    ],
)
def test_expressions_that_are_refused(s3: Any, bucket: str, sql: str, code: str) -> None:
    s3.put_object(Bucket=bucket, Key="o", Body=PEOPLE)
    error = refused_select(s3, bucket, sql)
    assert (error["Code"], error["Status"]) == (code, 400)


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"ExpressionType": "PARTIQL"}, "InvalidExpressionType"),
        ({"InputSerialization": {"CSV": {"FileHeaderInfo": "MAYBE"}}}, "InvalidFileHeaderInfo"),
        ({"InputSerialization": {"JSON": {"Type": "ARRAY"}}}, "InvalidJsonType"),
        ({"InputSerialization": {"CSV": {}, "CompressionType": "ZSTD"}}, "InvalidCompressionFormat"),
        ({"InputSerialization": {"CSV": {}, "JSON": {"Type": "LINES"}}}, "ObjectSerializationConflict"),
        ({"InputSerialization": {}}, "MissingRequiredParameter"),
        ({"InputSerialization": {"CSV": {}, "CompressionType": "GZIP"}}, "TruncatedInput"),
        ({"InputSerialization": {"Parquet": {}}}, "ParquetParsingError"),
        ({"InputSerialization": {"CSV": {}}}, "InvalidColumnIndex"),
        ({"OutputSerialization": {"CSV": {"QuoteFields": "NEVER"}}}, "InvalidQuoteFields"),
        ({"OutputSerialization": {"CSV": {"FieldDelimiter": "--"}}}, "InvalidRequestParameter"),
        ({"ScanRange": {"Start": 9, "End": 2}}, "InvalidRequestParameter"),
        (
            {"InputSerialization": {"CSV": {}, "CompressionType": "GZIP"}, "ScanRange": {"Start": 0, "End": 2}},
            "UnsupportedScanRangeInput",
        ),
    ],
)
def test_requests_that_are_refused(s3: Any, bucket: str, more: dict[str, Any], code: str) -> None:
    s3.put_object(Bucket=bucket, Key="o", Body=PEOPLE)
    error = refused_select(s3, bucket, "SELECT name FROM S3Object", **more)
    assert (error["Code"], error["Status"]) == (code, 400)


def test_bad_records_end_the_stream(s3: Any, bucket: str, ask: Ask) -> None:
    with pytest.raises(EventStreamError, match="CastFailed"):
        ask("SELECT CAST(name AS INT) FROM S3Object", PEOPLE)
    with pytest.raises(EventStreamError, match="JSONParsingError"):
        ask("SELECT s.a FROM S3Object s", '{"a": 1}\n{"a": \n', LINES)
    s3.put_object(Bucket=bucket, Key="o", Body=b"name\n\xff\xfe\n")
    assert refused_select(s3, bucket, "SELECT name FROM S3Object")["Code"] == "InvalidTextEncoding"


def test_select_needs_get_object(aws: Account, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="o", Body=PEOPLE)
    error = refused_select(aws.user(f"sel-{bucket}").client("s3"), bucket, "SELECT * FROM S3Object")
    assert error["Code"] == "AccessDenied"
    assert "s3:GetObject" in error["Message"]
    missing = {"Expression": "SELECT * FROM S3Object", "InputSerialization": HEADED, "OutputSerialization": {"CSV": {}}}
    assert refused(s3.select_object_content, Bucket=bucket, Key="none", ExpressionType="SQL", **missing)["Code"] == "NoSuchKey"
    assert (
        refused(s3.select_object_content, Bucket="no-such-bucket-x", Key="o", ExpressionType="SQL", **missing)["Code"]
        == "NoSuchBucket"
    )


def test_select_reads_what_get_object_reads(s3: Any, bucket: str) -> None:
    sql, given = "SELECT COUNT(*) FROM S3Object", {"CSV": {}}
    key = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": b"k" * 32}
    s3.put_object(Bucket=bucket, Key="o", Body=PEOPLE, **key)
    assert records(events(s3, bucket, "o", sql, given, **key)) == "5\n"
    assert refused_select(s3, bucket, sql, given)["Code"] == "InvalidRequest"
    s3.put_object(Bucket=bucket, Key="o", Body=PEOPLE, ServerSideEncryption="aws:kms")
    assert records(events(s3, bucket, "o", sql, given)) == "5\n"
    s3.put_object(Bucket=bucket, Key="o", Body=PEOPLE, StorageClass="GLACIER")
    assert refused_select(s3, bucket, sql, given)["Code"] == "InvalidObjectState"


def test_select_of_an_empty_object(ask: Ask) -> None:
    assert ask("SELECT * FROM S3Object", b"", {"CSV": {}}) == ""
    assert ask("SELECT COUNT(*) FROM S3Object", b"", {"CSV": {}}) == "0\n"
    assert ask("SELECT COUNT(*) FROM S3Object", b"", LINES) == "0\n"
