"""Tables in buckets through the tools that data people use: pandas, s3fs, pyarrow, polars, DuckDB. Each a program of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from pilvi.testing.server import Account, TestServer

Program = Callable[..., list[Any]]

FIVE = (
    "import pandas as pd\nframe = pd.DataFrame({'id': range(5), 'name': list('abcde'), 'year': [2024, 2024, 2025, 2025, 2025]})\n"
)


@pytest.fixture
def bucket(aws: Account) -> str:
    name = f"tables-{aws.account}"
    aws.client("s3").create_bucket(Bucket=name)
    return name


@pytest.fixture
def run(aws: Account, bucket: str) -> Program:
    """Runs a program with the account's environment; `tell(...)` in it prints what the test gets."""

    def program(code: str, **environ: str) -> list[Any]:
        whole = f"import json, os\nBUCKET = {bucket!r}\ndef tell(value): print(json.dumps(value))\n{code}"
        done = subprocess.run(
            [sys.executable, "-c", whole],
            env={**aws.environ(), **environ},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return [json.loads(line) for line in done.stdout.splitlines()]

    return program


def test_pandas_reads_and_writes_by_s3_address(run: Program) -> None:
    code = f"""{FIVE}
frame.to_csv(f"s3://{{BUCKET}}/csv/five.csv", index=False)
frame.to_parquet(f"s3://{{BUCKET}}/five.parquet")
tell(pd.read_csv(f"s3://{{BUCKET}}/csv/five.csv").equals(frame))
tell(pd.read_parquet(f"s3://{{BUCKET}}/five.parquet", columns=["id"])["id"].tolist())
pd.concat(pd.read_csv(f"s3://{{BUCKET}}/csv/five.csv", chunksize=2)).pipe(lambda whole: tell(len(whole)))
frame.to_json(f"s3://{{BUCKET}}/five.json.gz", orient="records", lines=True)
tell(len(pd.read_json(f"s3://{{BUCKET}}/five.json.gz", lines=True)))
"""
    assert run(code) == [True, [0, 1, 2, 3, 4], 5, 5]


def test_s3fs_lists_globs_appends_and_seeks(run: Program) -> None:
    code = """
import s3fs
fs = s3fs.S3FileSystem()
for year in (2024, 2025):
    for part in range(2):
        fs.pipe(f"{BUCKET}/data/{year}/part-{part}.csv", b"id\\n%d\\n" % part)
fs.pipe(f"{BUCKET}/data/readme.txt", b"no csv")
tell(sorted(name.partition("/")[2] for name in fs.glob(f"{BUCKET}/data/*/*.csv")))
tell([fs.isdir(f"{BUCKET}/data"), fs.exists(f"{BUCKET}/nothing"), fs.du(f"{BUCKET}/data/2024")])
with fs.open(f"{BUCKET}/big", "wb", block_size=5 * 2**20) as file:
    for number in range(3):
        file.write(bytes([number]) * 4 * 2**20)
with fs.open(f"{BUCKET}/big", "ab") as file:
    file.write(b"the end")
with fs.open(f"{BUCKET}/big", "rb") as file:
    file.seek(-7, 2)
    tell(file.read().decode())
tell(fs.info(f"{BUCKET}/big")["size"])
fs.mv(f"{BUCKET}/data/readme.txt", f"{BUCKET}/moved.txt")
fs.rm(f"{BUCKET}/data", recursive=True)
tell(sorted(name.partition("/")[2] for name in fs.find(BUCKET)))
"""
    parts = [f"data/{year}/part-{part}.csv" for year in (2024, 2025) for part in range(2)]
    assert run(code) == [parts, [True, False, 10], "the end", 12 * 2**20 + 7, ["big", "moved.txt"]]


def test_pyarrow_reads_only_the_partition_asked_for(run: Program, aws: Account, bucket: str) -> None:
    pytest.importorskip("pyarrow")
    writing = f"""{FIVE}
import pyarrow as pa, pyarrow.dataset as ds
from pyarrow.fs import FileSelector, S3FileSystem
fs = S3FileSystem(endpoint_override=os.environ["AWS_ENDPOINT_URL"])
ds.write_dataset(pa.Table.from_pandas(frame), f"{{BUCKET}}/parts", format="parquet", partitioning=["year"],
    partitioning_flavor="hive", filesystem=fs)
tell([info.base_name for info in fs.get_file_info(FileSelector(f"{{BUCKET}}/parts"))])
"""
    reading = """
import pyarrow.dataset as ds
from pyarrow.fs import S3FileSystem
found = ds.dataset(f"{BUCKET}/parts", format="parquet", partitioning="hive", filesystem=S3FileSystem(endpoint_override=os.environ["AWS_ENDPOINT_URL"]))
tell(found.to_table(filter=ds.field("year") == 2024).to_pydict()["name"])
try:
    found.to_table()
except OSError as error:
    tell("ACCESS_DENIED" in str(error).upper() or "Access Denied" in str(error))
"""
    assert run(writing) == [["year=2024", "year=2025"]]
    # The other partition is closed to everybody: a reader that looked at it would be refused. (The schema is read from the first file.)
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/parts/year=2025/*"}
    aws.client("s3").put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [deny]}))
    assert run(reading) == [["a", "b"], True]


def test_polars_scans_and_writes(run: Program) -> None:
    pytest.importorskip("polars")
    code = """
import polars as pl
pl.DataFrame({"id": list(range(1000)), "half": [number / 2 for number in range(1000)]}).write_parquet(f"s3://{BUCKET}/p/one.parquet")
found = pl.scan_parquet(f"s3://{BUCKET}/p/*.parquet").filter(pl.col("id") > 997).select("half").collect()
tell(found["half"].to_list())
pl.DataFrame({"a": [1, 2]}).write_csv(f"s3://{BUCKET}/p.csv")
tell(pl.read_csv(f"s3://{BUCKET}/p.csv")["a"].to_list())
"""
    assert run(code, AWS_ALLOW_HTTP="true") == [[499.0, 499.5], [1, 2]]


def test_duckdb_queries_a_bucket(run: Program) -> None:
    pytest.importorskip("duckdb")
    code = f"""{FIVE}
import duckdb, s3fs
frame.to_parquet(f"s3://{{BUCKET}}/d/five.parquet")
con = duckdb.connect()
con.register_filesystem(s3fs.S3FileSystem())
tell(con.sql(f"SELECT year, count(*) FROM read_parquet('s3://{{BUCKET}}/d/*.parquet') GROUP BY year ORDER BY year").fetchall())
"""
    assert run(code) == [[[2024, 2], [2025, 3]]]


def test_duckdb_with_its_own_reader(run: Program, aws: Account) -> None:
    duckdb = pytest.importorskip("duckdb")
    try:
        with duckdb.connect() as connection:
            connection.execute("LOAD httpfs")
    except duckdb.Error:
        pytest.skip("DuckDB's httpfs extension is not on this machine")
    code = f"""{FIVE}
import duckdb
frame.to_parquet(f"s3://{{BUCKET}}/d/five.parquet")
con = duckdb.connect()
con.execute("LOAD httpfs")
con.execute("CREATE SECRET (TYPE s3, KEY_ID '{aws.access_key_id}', SECRET '{aws.secret}', REGION '{aws.region}', "
    "ENDPOINT '{aws.endpoint.removeprefix("http://")}', URL_STYLE 'path', USE_SSL false)")
tell(con.sql(f"SELECT sum(id) FROM 's3://{{BUCKET}}/d/*.parquet'").fetchall())
"""
    assert run(code) == [[[10]]]


def test_pandas_reads_a_public_object_by_its_https_address(
    server: TestServer, run: Program, aws: Account, bucket: str, new_account: Callable[[], Account]
) -> None:
    """AWS's own host name, led here by the server's proxy; nothing is signed."""
    s3 = aws.client("s3")
    s3.put_object(Bucket=bucket, Key="open/five.csv", Body=b"id,name\n1,a\n2,b\n")
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration={})
    allow = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/open/*"}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [allow]}))
    server.cloud.authority.prepare()
    proxy = {"https_proxy": server.endpoint, "SSL_CERT_FILE": str(server.cloud.authority.certificate_path)}
    code = """
import pandas as pd, urllib.error
try:
    tell(pd.read_csv(f"https://{BUCKET}.s3.amazonaws.com/open/five.csv")["name"].tolist())
except urllib.error.HTTPError as error:
    tell(error.code)
"""
    assert run(code, **proxy) == [["a", "b"]]
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration={"RestrictPublicBuckets": True})
    assert run(code, **proxy) == [403]
