"""Listings: order, folders, paging to the end, encodings."""

from __future__ import annotations

import concurrent.futures
import itertools
import random
from typing import Any

import pytest

from pilvi.storage.records import sqlite
from pilvi.testing.server import is_compiled
from tests.services.s3.conftest import refused

KEYS = ["a", "a/1", "a/2", "a/b/1", "a0", "b/", "b/x", "c c+%", "d/é/1", "z"]


@pytest.fixture
def filled(s3: Any, bucket: str) -> str:
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda key: s3.put_object(Bucket=bucket, Key=key, Body=key.encode()), random.sample(KEYS, len(KEYS))))
    return bucket


def expected(keys: list[str], prefix: str, delimiter: str, after: str = "") -> list[str]:
    """What a listing must show, by the book: keys and folders in order."""
    seen: list[str] = []
    for key in sorted(key for key in keys if key.startswith(prefix)):
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        entry = key if cut < 0 else key[: cut + len(delimiter)]
        if entry not in seen and key > after:
            seen.append(entry)
    return seen


def entries(page: dict[str, Any]) -> list[str]:
    return sorted([c["Key"] for c in page.get("Contents", [])] + [p["Prefix"] for p in page.get("CommonPrefixes", [])])


@pytest.mark.parametrize("operation", ["list_objects_v2", "list_objects"])
def test_list_objects_pages_to_the_end(s3: Any, filled: str, operation: str) -> None:
    for prefix, delimiter, size in itertools.product(["", "a", "a/", "b/", "x", "d/é/"], ["", "/", "/1"], [1, 2, 3, 1000]):
        paging = {"Bucket": filled, "Prefix": prefix, "Delimiter": delimiter, "PaginationConfig": {"PageSize": size}}
        pages = list(s3.get_paginator(operation).paginate(**paging))
        wanted = expected(KEYS, prefix, delimiter)
        assert [entry for page in pages for entry in entries(page)] == wanted
        assert [len(entries(page)) for page in pages[:-1]] == [size] * (len(pages) - 1)
        assert len(pages) == max(1, -(-len(wanted) // size))


def test_list_objects_v2_tells_everything(s3: Any, bucket: str) -> None:
    put = s3.put_object(Bucket=bucket, Key="documents/example.txt", Body=b"12345")
    page = s3.list_objects_v2(Bucket=bucket, Delimiter="/")
    assert (page["CommonPrefixes"], "Contents" in page, page["KeyCount"]) == ([{"Prefix": "documents/"}], False, 1)
    page = s3.list_objects_v2(Bucket=bucket, Prefix="documents/", FetchOwner=True)
    entry = page["Contents"][0]
    assert (entry["Key"], entry["Size"], entry["ETag"], entry["StorageClass"]) == (
        "documents/example.txt",
        5,
        put["ETag"],
        "STANDARD",
    )
    assert (entry["ChecksumAlgorithm"], entry["ChecksumType"]) == (["CRC32"], "FULL_OBJECT")
    assert len(entry["Owner"]["ID"]) == 64
    assert "Owner" not in s3.list_objects_v2(Bucket=bucket)["Contents"][0]
    assert "Owner" in s3.list_objects(Bucket=bucket)["Contents"][0]
    assert (page["Name"], page["Prefix"], page["MaxKeys"], page["IsTruncated"]) == (bucket, "documents/", 1000, False)


def test_list_objects_start_after_and_max_keys(s3: Any, filled: str) -> None:
    assert entries(s3.list_objects_v2(Bucket=filled, StartAfter="a/2")) == KEYS[3:]
    assert entries(s3.list_objects_v2(Bucket=filled, StartAfter="a/", Delimiter="/"))[0] == "a0"
    assert entries(s3.list_objects(Bucket=filled, Marker="b/")) == KEYS[6:]
    none = s3.list_objects_v2(Bucket=filled, MaxKeys=0)
    assert (none["KeyCount"], none["IsTruncated"], none["MaxKeys"]) == (0, False, 0)
    assert s3.list_objects_v2(Bucket=filled, MaxKeys=5000)["MaxKeys"] == 1000
    assert refused(s3.list_objects_v2, Bucket=filled, MaxKeys=-1)["Code"] == "InvalidArgument"
    assert refused(s3.list_objects_v2, Bucket=filled, ContinuationToken="nonsense")["Code"] == "InvalidArgument"


def test_list_objects_v1_next_marker_only_with_folders(s3: Any, filled: str) -> None:
    assert "NextMarker" not in s3.list_objects(Bucket=filled, MaxKeys=2)
    assert s3.list_objects(Bucket=filled, MaxKeys=2, Delimiter="/")["NextMarker"] == "a/"


def test_list_objects_encodes_where_asked(raw: Any, filled: str) -> None:
    plain = raw("GET", f"/{filled}?list-type=2&prefix=c").content
    assert b"<Key>c c+%</Key>" in plain
    encoded = raw("GET", f"/{filled}?list-type=2&prefix=c%20&encoding-type=url").content
    assert b"<Key>c%20c%2B%25</Key>" in encoded
    assert b"<Prefix>c%20</Prefix>" in encoded
    assert b"InvalidArgument" in raw("GET", f"/{filled}?encoding-type=base64").content


@pytest.mark.skipif(is_compiled(sqlite), reason="reaches into a module that is compiled here")
def test_list_objects_skips_large_folders_without_reading_them(server: Any, s3: Any, bucket: str, aws: Any) -> None:
    """Three folders of 400 keys cost a handful of reads, not twelve hundred."""
    from pilvi.services.s3.catalog import BUCKETS
    from pilvi.storage.records import Insert, Table

    store = server.cloud.store
    row = store.get(BUCKETS, bucket).value
    table = Table(row["Account"], row["Region"], "s3", f"Object:{bucket}")
    value = {"size": 0, "etag": "0" * 32, "mtime": 1, "sum": ("CRC32", "AAAAAA==")}
    store.write(*[Insert(table, f"{folder}/{number:03}", value) for folder in "abc" for number in range(400)])
    read = 0
    scan = store.scan

    def counting(*given: Any, **more: Any) -> Any:
        nonlocal read
        rows = scan(*given, **more)
        read += len(rows)
        return rows

    store.scan = counting
    try:
        page = s3.list_objects_v2(Bucket=bucket, Delimiter="/")
    finally:
        store.scan = scan
    assert [entry["Prefix"] for entry in page["CommonPrefixes"]] == ["a/", "b/", "c/"]
    assert read <= 300


def test_the_resource_api_lists_and_deletes(aws: Any, s3: Any, bucket: str) -> None:
    resource = aws.session.resource("s3", endpoint_url=aws.endpoint)
    for number in range(25):
        resource.Object(bucket, f"r/{number:02} +").put(Body=b"1")
    found = [entry.key for entry in resource.Bucket(bucket).objects.filter(Prefix="r/").page_size(10)]
    assert found == [f"r/{number:02} +" for number in range(25)]
    resource.Bucket(bucket).objects.all().delete()
    assert list(resource.Bucket(bucket).objects.all()) == []


def test_list_object_versions_pages_to_the_end(s3: Any, versioned: str) -> None:
    puts = itertools.product(("a", "b/1", "b/2", "c"), (b"1", b"2"))
    made = [(key, s3.put_object(Bucket=versioned, Key=key, Body=body)["VersionId"]) for key, body in puts]
    made.append(("b/1", s3.delete_object(Bucket=versioned, Key="b/1")["VersionId"]))
    wanted = sorted(made, key=lambda entry: (entry[0], -made.index(entry)))
    for size in (1, 2, 3, 1000):
        pages = s3.get_paginator("list_object_versions").paginate(Bucket=versioned, PaginationConfig={"PageSize": size})
        found = [
            (entry["Key"], entry["VersionId"])
            for page in pages
            for entry in page.get("Versions", []) + page.get("DeleteMarkers", [])
        ]
        assert sorted(found) == sorted(wanted)
        assert len(found) == len(wanted)
    whole = s3.list_object_versions(Bucket=versioned)
    assert [(v["Key"], v["IsLatest"]) for v in whole["Versions"]] == [
        ("a", True),
        ("a", False),
        ("b/1", False),
        ("b/1", False),
        ("b/2", True),
        ("b/2", False),
        ("c", True),
        ("c", False),
    ]
    assert [(m["Key"], m["IsLatest"]) for m in whole["DeleteMarkers"]] == [("b/1", True)]
    folders = s3.list_object_versions(Bucket=versioned, Delimiter="/")
    assert [p["Prefix"] for p in folders["CommonPrefixes"]] == ["b/"]
    assert len(folders["Versions"]) == 4


def test_list_object_versions_of_an_unversioned_bucket(s3: Any, filled: str) -> None:
    found = s3.list_object_versions(Bucket=filled)
    assert [(v["Key"], v["VersionId"], v["IsLatest"]) for v in found["Versions"]] == [(key, "null", True) for key in KEYS]
    error = refused(s3.list_object_versions, Bucket=filled, VersionIdMarker="null")
    assert error["Code"] == "InvalidArgument"


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_list_multipart_uploads_pages_to_the_end(s3: Any, bucket: str, size: int) -> None:
    keys = ("a", "b/1", "b/2", "a", "c")
    made = [(key, s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]) for key in keys]
    pages = s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, PaginationConfig={"PageSize": size})
    found = [(entry["Key"], entry["UploadId"]) for page in pages for entry in page["Uploads"]]
    assert found == sorted(made, key=lambda entry: (entry[0], made.index(entry)))
    folders = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/", Prefix="")
    assert ([p["Prefix"] for p in folders["CommonPrefixes"]], len(folders["Uploads"])) == (["b/"], 3)
