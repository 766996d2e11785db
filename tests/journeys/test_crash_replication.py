"""kill -9 between a write and its delivery: what was acknowledged is replicated after the next start, all of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from pilvi.testing.server import eventually
from pilvi.testing.up import Up

PUTS = 300
KILLS = 3
EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


def body_of(number: int) -> bytes:
    return f"{number:06d}".encode() * (10 if number % 3 else 20_000)


def prepared(server: Up) -> None:
    s3 = server.root.client("s3")
    for name in ("crash-source", "crash-target"):
        s3.create_bucket(Bucket=name)
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    role = server.root.role("replicator", "s3.amazonaws.com", EVERYTHING)
    rule = {
        "ID": "all",
        "Status": "Enabled",
        "Priority": 1,
        "Filter": {"Prefix": ""},
        "DeleteMarkerReplication": {"Status": "Enabled"},
        "Destination": {"Bucket": "arn:aws:s3:::crash-target"},
    }
    s3.put_bucket_replication(Bucket="crash-source", ReplicationConfiguration={"Role": role, "Rules": [rule]})


def put_some(server: Up, first: int, acknowledged: dict[int, str], enough: threading.Event) -> None:
    s3 = server.root.client("s3", config=Config(max_pool_connections=32, retries={"total_max_attempts": 1}))
    reached = len(acknowledged) + PUTS // KILLS // 2

    def put(number: int) -> None:
        try:
            answer = s3.put_object(Bucket="crash-source", Key=f"k{number % 40:02}", Body=body_of(number))
        except (BotoCoreError, ClientError):
            return
        acknowledged[number] = answer["VersionId"]
        if len(acknowledged) >= reached:
            enough.set()

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(put, range(first, first + PUTS // KILLS)))
    enough.set()


def test_acknowledged_versions_are_replicated_through_kills(up: Callable[..., Up]) -> None:
    server = up()
    prepared(server)
    acknowledged: dict[int, str] = {}
    for turn in range(KILLS):
        enough = threading.Event()
        writer = threading.Thread(target=put_some, args=(server, turn * PUTS, acknowledged, enough))
        writer.start()
        assert enough.wait(60)
        server.kill()
        writer.join()
        server = up()
    s3: Any = server.root.client("s3")

    def versions(bucket: str) -> list[str]:
        pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket)
        return [
            json.dumps([v["Key"], v["VersionId"], v["ETag"], v["IsLatest"]]) for page in pages for v in page.get("Versions", ())
        ]

    eventually(lambda: versions("crash-source") == versions("crash-target"), within_s=60, every_s=0.3)
    assert len(versions("crash-source")) >= len(acknowledged) > 0
    for number, version in acknowledged.items():
        where = {"Key": f"k{number % 40:02}", "VersionId": version}
        assert s3.get_object(Bucket="crash-target", **where)["Body"].read() == body_of(number)
        eventually(lambda where=where: s3.head_object(Bucket="crash-source", **where)["ReplicationStatus"] == "COMPLETED")
