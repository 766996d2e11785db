"""The completion report: which tasks succeeded, which failed and why; CSV files and a manifest that names them.

Source: S3 User Guide, "Examples: S3 Batch Operations completion reports".
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote_plus

from pilvi.core.service import Context
from pilvi.storage.records import Table

ROWS = 50
FILE_BYTES = 32 << 20
SCHEMA = "Bucket, Key, VersionId, TaskStatus, ErrorCode, HTTPStatusCode, ResultMessage"


def write_report(ctx: Context, job: Mapping[str, Any], results: Table) -> None:
    """As the job's role, into the bucket that the job names."""
    report = job["Report"]
    bucket = report["Bucket"].partition(":::")[2]
    folder = f"{report.get('Prefix', '').rstrip('/')}/job-{job['JobId']}".lstrip("/")
    expected = {"ExpectedBucketOwner": report["ExpectedBucketOwner"]} if "ExpectedBucketOwner" in report else {}
    statuses = ("failed",) if report["ReportScope"] == "FailedTasksOnly" else ("succeeded", "failed")
    named = []
    for status in statuses:
        for text in files_of(ctx, results, status):
            key = f"{folder}/results/{hashlib.sha1(text).hexdigest()}.csv"
            put(ctx, bucket, key, text, expected)
            named.append(
                {"TaskExecutionStatus": status, "Bucket": bucket, "MD5Checksum": hashlib.md5(text).hexdigest(), "Key": key}
            )
    now = ctx.clock.now()
    manifest = {
        "Format": report["Format"],
        "ReportCreationDate": f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03d}Z",
        "Results": named,
        "ReportSchema": SCHEMA,
    }
    text = json.dumps(manifest).encode()
    put(ctx, bucket, f"{folder}/manifest.json", text, expected)
    put(ctx, bucket, f"{folder}/manifest.json.md5", hashlib.md5(text).hexdigest().encode(), expected)


def put(ctx: Context, bucket: str, key: str, text: bytes, expected: Mapping[str, Any]) -> None:
    ctx.call("s3", "PutObject", Bucket=bucket, Key=key, Body=text, ServerSideEncryption="AES256", **expected)


def files_of(ctx: Context, results: Table, status: str) -> Iterator[bytes]:
    """The lines of one kind, in files of bounded size."""
    into, after = io.StringIO(), ""
    lines = csv.writer(into, lineterminator="\n")
    while rows := ctx.store.scan(results, after=after, limit=ROWS):
        after = rows[-1].id
        for row in rows:
            for bucket, key, version_id, succeeded, http, code, message in row.value["done"]:
                if succeeded == (status == "succeeded"):
                    lines.writerow((bucket, quote_plus(key, safe="/"), version_id, status, http, code, message))
        if into.tell() > FILE_BYTES:
            yield into.getvalue().encode()
            into.seek(0)
            into.truncate()
    if into.tell():
        yield into.getvalue().encode()
