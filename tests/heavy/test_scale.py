"""A million objects in a bucket list as a thousand do, and an object of more than 5 GiB is assembled and read."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from botocore.config import Config

from pilvi.services.s3.catalog import read_bucket
from pilvi.storage.records import Put
from pilvi.testing.up import Up
from tests.heavy.soak import rss_mib

OBJECTS = 1_000_000
PAGES = 30
PATIENT = Config(retries={"total_max_attempts": 1}, read_timeout=600, proxies={})
PART = 512 << 20
PARTS = 11
"""5.5 GiB."""


def fill(data_dir: Path, name: str, count: int) -> None:
    """Rows of empty objects, as PutObject writes them, without a request for each."""
    from pilvi.app.cloud import Cloud
    from pilvi.core.config import Config as Settings
    from pilvi.core.principal import Principal

    cloud = Cloud(Settings(data_dir=data_dir))
    try:
        account = cloud.identities.accounts()[0]
        ctx = cloud.context(Principal("root", account, f"arn:aws:iam::{account}:root", account), "s3")
        bucket = read_bucket(ctx, name)
        assert bucket is not None
        row = ctx.store.get(bucket.tables.objects, "model")
        assert row is not None
        for at in range(0, count, 2000):
            numbers = range(at, min(count, at + 2000))
            cloud.store.write(*[Put(bucket.tables.objects, f"k/{number % 100:02}/{number:08}", row.value) for number in numbers])
    finally:
        cloud.close()


def pages(s3: Any, bucket: str, start: str) -> tuple[float, int]:
    """Best milliseconds for a page of a thousand keys from a place on, and the keys seen."""
    took, seen, after = [], 0, start
    for _ in range(PAGES):
        begun = time.perf_counter()
        found = s3.list_objects_v2(Bucket=bucket, StartAfter=after)
        took.append((time.perf_counter() - begun) * 1000)
        seen += len(found.get("Contents", ()))
        after = found["Contents"][-1]["Key"] if found["IsTruncated"] else start
    return min(took), seen


def test_a_million_objects_list_as_a_thousand(tmp_path: Path) -> None:
    up = Up(tmp_path)
    s3 = up.root.client("s3")
    for bucket in ("small", "large"):
        s3.create_bucket(Bucket=bucket)
        s3.put_object(Bucket=bucket, Key="model", Body=b"")
    up.stop()
    fill(tmp_path, "small", 999)
    fill(tmp_path, "large", OBJECTS)
    up = Up(tmp_path)
    try:
        s3 = up.root.client("s3", config=PATIENT)
        small, _ = pages(s3, "small", "")
        before = rss_mib(up.process.pid)
        first, seen = pages(s3, "large", "")
        assert seen == PAGES * 1000
        deep, seen = pages(s3, "large", f"k/77/{OBJECTS // 2:08}")
        assert seen == PAGES * 1000
        folders = s3.list_objects_v2(Bucket="large", Prefix="k/", Delimiter="/")["CommonPrefixes"]
        assert len(folders) == 100
        total = sum(len(page.get("Contents", ())) for page in s3.get_paginator("list_objects_v2").paginate(Bucket="large"))
        assert total == OBJECTS + 1
        after = rss_mib(up.process.pid)
        print(
            f"page of 1,000: {small:.1f} ms of 1,000; {first:.1f} first, {deep:.1f} deep of {OBJECTS:,}; {before:.0f} -> {after:.0f} MiB"
        )
        assert after < before + 40
    finally:
        up.stop()


def test_an_object_beyond_5_gib_uploads_and_its_last_bytes_read_back(tmp_path: Path) -> None:
    """Its parts are copies of one object within the server; more bytes than one PutObject takes."""
    up = Up(tmp_path)
    try:
        s3 = up.root.client("s3", config=PATIENT)
        s3.create_bucket(Bucket="bucket")
        with open(tmp_path / "sparse", "wb") as file:
            file.truncate(PART - 4)
            file.seek(PART - 4)
            file.write(b"last")
        with open(tmp_path / "sparse", "rb") as file:
            s3.put_object(Bucket="bucket", Key="part", Body=file)
        target = {"Bucket": "bucket", "Key": "large"}
        upload = target | {"UploadId": s3.create_multipart_upload(**target)["UploadId"]}
        parts = []
        for number in range(1, PARTS + 1):
            copied = s3.upload_part_copy(**upload, PartNumber=number, CopySource="bucket/part")["CopyPartResult"]
            parts.append({"PartNumber": number, "ETag": copied["ETag"]})
        s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        size = PART * PARTS
        assert size > 5_000_000_000
        assert s3.head_object(**target)["ContentLength"] == size
        assert s3.get_object(**target, Range=f"bytes={size - 8}-")["Body"].read() == b"\0\0\0\0last"
        assert s3.get_object(**target, Range=f"bytes={PART * 9 - 4}-{PART * 9}")["Body"].read() == b"last\0"
        assert rss_mib(up.process.pid) < 200
    finally:
        up.stop()
