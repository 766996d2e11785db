"""A data lake on buckets alone: raw data lands as it is, several engines read one copy, old partitions are archived, tags tell whose it is."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import wave
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.testing.server import Account, TestServer

DAY_S = 86400


@pytest.fixture
def lake(aws: Account) -> str:
    name = f"lake-{aws.account}"
    aws.client("s3").create_bucket(Bucket=name)
    return name


def picture() -> bytes:
    """A PNG of 8 x 8 grey points."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(range(row * 8, row * 8 + 8)) for row in range(8))
    head = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def sound() -> bytes:
    """A tenth of a second as WAV."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(struct.pack("<800h", *range(800)))
    return buffer.getvalue()


class Endless(io.RawIOBase):
    """A stream whose length nobody knows beforehand."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def readinto(self, buffer: Any) -> int:
        piece = self._data.read(min(len(buffer), 7001))
        buffer[: len(piece)] = piece
        return len(piece)


def test_raw_data_of_every_kind_lands_byte_identical(aws: Account, lake: str, titanic: Path) -> None:
    s3 = aws.client("s3")
    raw = {
        "raw/titanic.csv": ((titanic / "train.csv").read_bytes(), "text/csv"),
        "raw/events.json": (b'{"id": 1, "name": "\xc3\xa4"}\n{"id": 2}\r\n', "application/json"),
        "raw/order.xml": ('<?xml version="1.0" encoding="UTF-16"?><order id="7"/>'.encode("utf-16"), "application/xml"),
        "raw/picture.png": (picture(), "image/png"),
        "raw/sound.wav": (sound(), "audio/wav"),
        "raw/empty": (b"", "application/octet-stream"),
    }
    with ThreadPoolExecutor(4) as pool:
        for key, (body, kind) in raw.items():
            pool.submit(s3.put_object, Bucket=lake, Key=key, Body=body, ContentType=kind)
    stream = bytes(range(256)) * 40_000
    s3.upload_fileobj(Endless(stream), lake, "raw/stream.bin")
    raw["raw/stream.bin"] = (stream, "binary/octet-stream")
    listed = {entry["Key"]: entry["Size"] for entry in s3.list_objects_v2(Bucket=lake, Prefix="raw/")["Contents"]}
    assert listed == {key: len(body) for key, (body, _) in raw.items()}
    for key, (body, kind) in raw.items():
        found = s3.get_object(Bucket=lake, Key=key)
        assert found["ContentType"] == kind
        assert found["Body"].read() == body, key


WRITE = """
import pandas as pd
for day in (4, 5, 6):
    frame = pd.DataFrame({"id": range(day * 100), "product": ["pen", "ink", "cap", "nib"] * (day * 25)})
    frame.to_parquet(f"s3://{BUCKET}/sales/year=2026/month=11/day={day:02}/part-0.parquet")
"""
ENGINES = {
    "duckdb": """
import duckdb, s3fs
con = duckdb.connect()
con.register_filesystem(s3fs.S3FileSystem())
table = f"read_parquet('s3://{BUCKET}/sales/*/*/*/*.parquet', hive_partitioning=true)"
counts = []
for condition in ("true", "month = 11 AND day = 5"):
    counts.append(con.sql(f"SELECT count(*) FROM {table} WHERE {condition}").fetchall()[0][0])
tell(counts)
""",
    "pyarrow": """
import pyarrow.dataset as ds
from pyarrow.fs import S3FileSystem
store = S3FileSystem(endpoint_override=os.environ["AWS_ENDPOINT_URL"], allow_bucket_creation=False)
sales = ds.dataset(f"{BUCKET}/sales", filesystem=store, partitioning="hive")
tell([sales.count_rows(), sales.count_rows(filter=(ds.field("month") == 11) & (ds.field("day") == 5))])
""",
    "pandas": """
import pandas as pd
whole = pd.read_parquet(f"s3://{BUCKET}/sales", columns=["id", "day"])
part = pd.read_parquet(f"s3://{BUCKET}/sales", filters=[("month", "=", 11), ("day", "=", 5)])
tell([len(whole), len(part)])
""",
}


def test_engines_agree_about_one_copy(aws: Account, lake: str) -> None:
    pytest.importorskip("duckdb")

    def program(code: str) -> str:
        whole = f"import json, os\nBUCKET = {lake!r}\ndef tell(value): print(json.dumps(value))\n{code}"
        command = [sys.executable, "-c", whole]
        done = subprocess.run(command, env=aws.environ(), capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    program(WRITE)
    with ThreadPoolExecutor(len(ENGINES)) as pool:
        answers = dict(zip(ENGINES, pool.map(program, ENGINES.values()), strict=True))
    assert {name: json.loads(text) for name, text in answers.items()} == {name: [1500, 500] for name in ENGINES}
    keys = [entry["Key"] for entry in aws.client("s3").list_objects_v2(Bucket=lake)["Contents"]]
    assert len(keys) == 3, "nobody made a copy"


def test_last_years_partitions_are_archived_by_rule_and_old_ones_deleted(timed: TestServer) -> None:
    aws = timed.account("123456789012")
    s3, cloud = aws.client("s3"), timed.cloud
    s3.create_bucket(Bucket="lake")
    last = cloud.clock.now().year
    this = last + 1

    def put(year: int) -> None:
        for month in (1, 7):
            s3.put_object(Bucket="lake", Key=f"sales/year={year}/month={month:02}/part-0.csv", Body=b"id,n\n" * 50_000)

    def classes(year: int) -> set[str]:
        found = s3.list_objects_v2(Bucket="lake", Prefix=f"sales/year={year}/")
        return {entry["StorageClass"] for entry in found.get("Contents", [])}

    put(last)
    s3.put_object(Bucket="lake", Key="tmp/draft", Body=b"x")
    rules = [
        {
            "ID": "archive",
            "Filter": {"Prefix": f"sales/year={last}/"},
            "Status": "Enabled",
            "Transitions": [{"Days": 365, "StorageClass": "GLACIER"}],
            "Expiration": {"Days": 1000},
        },
        {"ID": "drafts", "Filter": {"Prefix": "tmp/"}, "Status": "Enabled", "Expiration": {"Days": 7}},
    ]
    s3.put_bucket_lifecycle_configuration(Bucket="lake", LifecycleConfiguration={"Rules": rules})
    cloud.advance_clock(360 * DAY_S)
    put(this)
    assert (classes(last), classes(this)) == ({"STANDARD"}, {"STANDARD"})
    assert s3.list_objects_v2(Bucket="lake", Prefix="tmp/")["KeyCount"] == 0
    cloud.advance_clock(10 * DAY_S)
    assert (classes(last), classes(this)) == ({"GLACIER"}, {"STANDARD"})
    with pytest.raises(ClientError, match="InvalidObjectState"):
        s3.get_object(Bucket="lake", Key=f"sales/year={last}/month=01/part-0.csv")
    assert s3.get_object(Bucket="lake", Key=f"sales/year={this}/month=01/part-0.csv")["ContentLength"] == 250_000
    cloud.advance_clock(700 * DAY_S)
    assert (classes(last), classes(this)) == (set(), {"STANDARD"})


def test_tags_and_metadata_tell_whose_data_it_is(aws: Account, lake: str) -> None:
    s3 = aws.client("s3")
    owners = {"sales/1": "ann", "sales/2": "bob", "logs/1": "ann"}
    for key, owner in owners.items():
        s3.put_object(Bucket=lake, Key=key, Body=b"1", Metadata={"source": "crm-4", "schema-version": "2"})
        s3.put_object_tagging(Bucket=lake, Key=key, Tagging={"TagSet": [{"Key": "owner", "Value": owner}]})
    head = s3.head_object(Bucket=lake, Key="sales/1")
    assert head["Metadata"] == {"source": "crm-4", "schema-version": "2"}

    def owner_of(key: str) -> str:
        return {tag["Key"]: tag["Value"] for tag in s3.get_object_tagging(Bucket=lake, Key=key)["TagSet"]}["owner"]

    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket=lake)["Contents"]]
    assert [key for key in keys if owner_of(key) == "ann"] == ["logs/1", "sales/1"]
    hers = {"StringEquals": {"s3:ExistingObjectTag/owner": "${aws:username}"}}
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{lake}/*", "Condition": hers}
    ann = aws.user("ann", {"Version": "2012-10-17", "Statement": [statement]}).client("s3")
    assert ann.get_object(Bucket=lake, Key="sales/1")["ContentLength"] == 1
    with pytest.raises(ClientError, match="AccessDenied"):
        ann.get_object(Bucket=lake, Key="sales/2")
