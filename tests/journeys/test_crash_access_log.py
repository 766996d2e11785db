"""kill -9 before logs are delivered: lines of requests that were answered a second ago are delivered after the next start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

from pilvi.testing.server import eventually
from pilvi.testing.up import Up

READS = 8


def test_lines_outlive_a_kill(up: Callable[..., Up]) -> None:
    server = up("--workers", "2")
    s3 = server.root.client("s3")
    for name in ("read-bucket", "log-bucket"):
        s3.create_bucket(Bucket=name)
    allow = {
        "Effect": "Allow",
        "Principal": {"Service": "logging.s3.amazonaws.com"},
        "Action": "s3:PutObject",
        "Resource": "arn:aws:s3:::log-bucket/*",
    }
    s3.put_bucket_policy(Bucket="log-bucket", Policy=json.dumps({"Version": "2012-10-17", "Statement": [allow]}))
    s3.put_object(Bucket="read-bucket", Key="k", Body=b"x" * 100_000)
    to = {"TargetBucket": "log-bucket", "TargetPrefix": ""}
    s3.put_bucket_logging(Bucket="read-bucket", BucketLoggingStatus={"LoggingEnabled": to})
    for _ in range(READS):
        client = server.root.session.client("s3", region_name="us-east-1", endpoint_url=server.endpoint)
        client.get_object(Bucket="read-bucket", Key="k")["Body"].read()
        client.close()
    eventually(lambda: kept(server) >= READS)
    server.kill()
    server = up()
    command = [sys.executable, "-m", "pilvi", "clock", "advance", "301s", "--data-dir", str(server.data_dir)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ})
    s3 = server.root.client("s3")
    lines: list[str] = []
    for entry in s3.list_objects_v2(Bucket="log-bucket").get("Contents", []):
        lines += s3.get_object(Bucket="log-bucket", Key=entry["Key"])["Body"].read().decode().splitlines()
    assert sum(" REST.GET.OBJECT k " in line for line in lines) == READS


def kept(server: Up) -> int:
    """Lines that lie in the store, as another reader of it sees them."""
    from pilvi.storage.records.sqlite import SqliteRecords

    store = SqliteRecords(server.data_dir / "records.sqlite", shared=True)
    try:
        return sum(
            len(row.value["lines"])
            for table in store.tables(service="s3watch")
            for row in store.scan(table)
            if "lines" in row.value
        )
    finally:
        store.close()
