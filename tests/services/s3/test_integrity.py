"""What is read is what was written: a flipped bit is found wherever it lies, and no plaintext lies anywhere."""

from __future__ import annotations

import itertools
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, HTTPClientError, IncompleteReadError, ResponseStreamingError

from pilvi.storage.records import sqlite
from pilvi.testing.server import Account, TestServer, eventually, is_compiled
from tests.services.s3.conftest import refused
from tests.services.s3.test_sealing import MIB5, C, read
from tests.services.s3.test_sealing_kms import METHODS

BROKEN = (ClientError, HTTPClientError, IncompleteReadError, ResponseStreamingError)


@pytest.fixture(scope="module", params=["encrypted", "disk"])
def own_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    with TestServer(tmp_path_factory.mktemp("integrity"), at_rest=request.param) as running:
        yield running


_numbers = itertools.count(400000000001)


@pytest.fixture
def aws(own_server: TestServer) -> Account:
    return own_server.account(str(next(_numbers)))


@pytest.fixture
def folder(own_server: TestServer) -> Path:
    return Path(own_server.config.data_dir)


def blob_files(folder: Path) -> set[Path]:
    return {path for path in (folder / "blobs").rglob("*") if path.is_file()}


@pytest.fixture
def new_file(folder: Path, s3: Any, bucket: str) -> Callable[..., Path]:
    """Put an object that fills a file of its own; gives the file."""

    def put(key: str, data: bytes, **more: Any) -> Path:
        before = blob_files(folder)
        s3.put_object(Bucket=bucket, Key=key, Body=data, **more)
        (made,) = blob_files(folder) - before
        return made

    return put


def flip(path: Path, place: int) -> None:
    with open(path, "r+b") as file:
        file.seek(place, os.SEEK_END if place < 0 else os.SEEK_SET)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 4]))


@pytest.mark.parametrize("method", ["s3", "dsse", "c"])
def test_a_flipped_bit_in_a_file_is_never_served(
    own_server: TestServer, s3: Any, bucket: str, new_file: Callable[..., Path], method: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = os.urandom(400_000)
    opened = C if method == "c" else {}
    for place in (300, 200_000, 390_000, -20):
        path = new_file("k", data, **METHODS[method])
        assert read(s3, bucket, "k", **opened) == data
        flip(path, place)
        caplog.clear()
        with caplog.at_level(logging.ERROR), pytest.raises(BROKEN):
            read(s3, bucket, "k", **opened)
        # A client may see its connection break before the line is written.
        eventually(lambda name=path.name: name in caplog.text)
        assert "damaged" in caplog.text
        flip(path, place)
        assert read(s3, bucket, "k", **opened) == data


def test_what_is_whole_of_a_damaged_file_can_be_read(s3: Any, bucket: str, new_file: Callable[..., Path]) -> None:
    data = os.urandom(1_000_000)
    flip(new_file("k", data), 900_000)
    assert read(s3, bucket, "k", Range="bytes=1000-70000") == data[1000:70001]
    with pytest.raises(BROKEN):
        read(s3, bucket, "k", Range="bytes=880000-910000")


def test_a_file_that_is_cut_or_gone_is_noticed(s3: Any, bucket: str, new_file: Callable[..., Path]) -> None:
    path = new_file("k", os.urandom(400_000))
    whole = path.read_bytes()
    for cut in (whole[:-1], whole[:100_000], b"", whole + b"1"):
        path.write_bytes(cut)
        with pytest.raises(BROKEN):
            read(s3, bucket, "k")


@pytest.mark.parametrize("method", ["s3", "kms", "c"])
def test_a_flipped_bit_in_a_row_is_never_served(
    own_server: TestServer, s3: Any, bucket: str, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    opened = C if method == "c" else {}
    s3.put_object(Bucket=bucket, Key="k", Body=b"known " * 50, **METHODS[method])
    (row,) = own_server.cloud.store.scan(find_tables(own_server, bucket), limit=10)
    change_body(own_server, row.value["at"], lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:])
    with caplog.at_level(logging.ERROR):
        error = refused(s3.get_object, Bucket=bucket, Key="k", **opened)
    assert (error["Status"], error["Code"]) == (500, "InternalError")
    assert row.value["at"] in caplog.text


def test_a_flipped_bit_in_a_list_of_parts_is_noticed(own_server: TestServer, s3: Any, bucket: str) -> None:
    upload = {"Bucket": bucket, "Key": "k", "UploadId": s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]}
    one = s3.upload_part(**upload, PartNumber=1, Body=b"1")
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": one["ETag"]}]})
    (row,) = own_server.cloud.store.scan(find_tables(own_server, bucket), limit=10)
    change_body(own_server, row.value["parts"], lambda data: data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
    assert refused(s3.get_object, Bucket=bucket, Key="k")["Status"] == 500


def find_tables(server: TestServer, bucket: str) -> Any:
    (table,) = [table for table in server.cloud.store.tables() if table.noun == f"Object:{bucket}"]
    return table


def change_body(server: TestServer, name: str, change: Callable[[bytes], bytes]) -> None:
    """Alter a small body behind the server's back, also behind that of its cache."""
    if is_compiled(sqlite):
        pytest.skip("compiled: its cache cannot be reached")
    data = server.cloud.store.body(name)
    database = sqlite3.connect(Path(server.config.data_dir) / "records.sqlite")
    with database:
        changed = [
            database.execute(f"UPDATE {table} SET data = ? WHERE data = ?", (change(data), data)).rowcount
            for table in ("body", "small_body")
        ]
    database.close()
    assert sum(changed) == 1
    server.cloud.store._bodies.clear()


KNOWN = b"a sentence that whoever searches the disk knows by heart; "


def test_a_known_plaintext_is_nowhere_in_the_data_directory(own_server: TestServer, s3: Any, bucket: str, folder: Path) -> None:
    """SSE-S3 objects on a disk that is said to be encrypted are the one exception."""
    hidden = METHODS if own_server.config.at_rest == "encrypted" else {name: METHODS[name] for name in METHODS if name != "s3"}
    for name, method in hidden.items():
        for size in (500, 200_000):
            s3.put_object(Bucket=bucket, Key=f"{name}{size}", Body=KNOWN * (size // len(KNOWN)), **method)
        upload = {"Bucket": bucket, "Key": name, **(C if name == "c" else {})}
        upload_id = s3.create_multipart_upload(Bucket=bucket, Key=name, **method)["UploadId"]
        one = s3.upload_part(**upload, UploadId=upload_id, PartNumber=1, Body=KNOWN * (MIB5 // len(KNOWN) + 1))
        parts = {"Parts": [{"PartNumber": 1, "ETag": one["ETag"]}]}
        s3.complete_multipart_upload(Bucket=bucket, Key=name, UploadId=upload_id, MultipartUpload=parts)
    secret = C["SSECustomerKey"]
    for path in folder.rglob("*"):
        if path.is_file():
            stored = path.read_bytes()
            assert KNOWN not in stored, path
            assert secret not in stored, path


@pytest.mark.parametrize("method", METHODS)
def test_two_equal_objects_differ_on_the_disk(own_server: TestServer, new_file: Callable[..., Path], method: str) -> None:
    data = KNOWN * 5000
    one, two = (new_file(key, data, **METHODS[method]).read_bytes() for key in ("one", "two"))
    if own_server.config.at_rest == "encrypted" or method != "s3":
        assert one != two
        assert one[-100_000:-50_000] != two[-100_000:-50_000]
