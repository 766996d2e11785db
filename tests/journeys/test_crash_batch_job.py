"""kill -9 in the middle of a Batch Operations job: after the next start it goes on to its end, and reports every object once."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

from botocore.config import Config

from pilvi.testing.server import eventually
from pilvi.testing.up import Up

OBJECTS = 4_000
KILLS = 2
BUCKET = "crash-batch"
EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}


def control_of(server: Up) -> Any:
    return server.root.client("s3control", config=Config(proxies={"http": server.endpoint}, retries={"total_max_attempts": 1}))


def begin(server: Up) -> str:
    s3 = server.root.client("s3")
    role = server.root.role("batch", "batchoperations.s3.amazonaws.com", EVERYTHING)
    lines = "".join(f"{BUCKET},k{number:05}\n" for number in range(OBJECTS))
    etag = s3.put_object(Bucket=BUCKET, Key="manifest.csv", Body=lines.encode())["ETag"]
    spec = {"Format": "S3BatchOperations_CSV_20180820", "Fields": ["Bucket", "Key"]}
    report = {"Bucket": f"arn:aws:s3:::{BUCKET}", "Format": "Report_CSV_20180820", "Enabled": True, "ReportScope": "AllTasks"}
    return str(
        control_of(server).create_job(
            AccountId=server.root.account,
            Operation={"S3PutObjectTagging": {"TagSet": [{"Key": "done", "Value": "yes"}]}},
            Manifest={"Spec": spec, "Location": {"ObjectArn": f"arn:aws:s3:::{BUCKET}/manifest.csv", "ETag": etag}},
            Report={**report, "Prefix": "reports"},
            Priority=1,
            RoleArn=role,
            ConfirmationRequired=False,
        )["JobId"]
    )


def test_every_object_is_tagged_through_kills(up: Callable[..., Up]) -> None:
    server = up()
    s3 = server.root.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="k", Body=b"x")
    make_objects(server)
    id = begin(server)
    for turn in range(1, KILLS + 1):
        reached(server, id, turn * 1000)
        server.kill()
        server = up()
    job = eventually(lambda: ended(server, id), within_s=120, every_s=0.3)
    assert job["Status"] == "Complete"
    assert job["ProgressSummary"]["NumberOfTasksSucceeded"] == OBJECTS
    s3 = server.root.client("s3")
    manifest = json.loads(s3.get_object(Bucket=BUCKET, Key=f"reports/job-{id}/manifest.json")["Body"].read())
    keys = [
        line[1]
        for result in manifest["Results"]
        for line in csv.reader(io.StringIO(s3.get_object(Bucket=BUCKET, Key=result["Key"])["Body"].read().decode()))
    ]
    assert sorted(keys) == [f"k{number:05}" for number in range(OBJECTS)]
    assert s3.get_object_tagging(Bucket=BUCKET, Key="k03999")["TagSet"] == [{"Key": "done", "Value": "yes"}]


def make_objects(server: Up) -> None:
    from concurrent.futures import ThreadPoolExecutor

    s3 = server.root.client("s3", config=Config(max_pool_connections=16))
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: s3.put_object(Bucket=BUCKET, Key=f"k{number:05}"), range(OBJECTS)))


def described(server: Up, id: str) -> dict[str, Any]:
    return dict(control_of(server).describe_job(AccountId=server.root.account, JobId=id)["Job"])


def done(server: Up, id: str) -> int:
    return int(described(server, id)["ProgressSummary"]["NumberOfTasksSucceeded"])


def ended(server: Up, id: str) -> dict[str, Any] | None:
    job = described(server, id)
    return job if job["Status"] in ("Complete", "Failed", "Cancelled") else None


def reached(server: Up, id: str, count: int) -> None:
    """Wait until so many objects are done."""
    eventually(lambda: done(server, id) > count, within_s=60)
