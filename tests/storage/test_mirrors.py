"""Everything in three directories: two may be lost, a flipped bit is found and mended, one zone is one zone."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest

from pilvi.app.stores import open_stores
from pilvi.core.config import Config
from pilvi.core.errors import Invalid, Unavailable
from pilvi.storage.records import Put, PutBody, Table
from pilvi.storage.records.sqlite import SqliteRecords
from pilvi.testing.server import TestServer, eventually

FOLDERS = ("a", "b", "c")
SIZES = (0, 1, 20_000, 40_000, 300_000, 3_000_000)
ROWS = Table("1", "r", "s", "Row")


def mirrored(folder: Path, **settings: Any) -> TestServer:
    return TestServer(folder / "a", mirrors=os.pathsep.join(str(folder / name) for name in FOLDERS[1:]), **settings)


def data_of(number: int) -> bytes:
    return (hashlib.sha256(b"%d" % number).digest() * (SIZES[number % len(SIZES)] // 32 + 1))[: SIZES[number % len(SIZES)]]


def fill(server: TestServer) -> Any:
    s3 = server.account("111122223333").client("s3")
    s3.create_bucket(Bucket="bucket")
    for number in range(12):
        s3.put_object(Bucket="bucket", Key=f"k{number}", Body=data_of(number))
    return s3


def assert_all_there(server: TestServer) -> None:
    s3 = server.account("111122223333").client("s3")
    for number in range(12):
        assert s3.get_object(Bucket="bucket", Key=f"k{number}")["Body"].read() == data_of(number)


def blob_files(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "blobs").rglob("*") if path.is_file())


def flip(path: Path, at: int) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x10]))


@pytest.mark.parametrize("kept", FOLDERS)
@pytest.mark.parametrize("at_rest", ["encrypted", "disk"])
def test_any_two_of_three_directories_may_be_lost(tmp_path: Path, kept: str, at_rest: str) -> None:
    with mirrored(tmp_path, at_rest=at_rest) as server:
        fill(server)
    for name in FOLDERS:
        if name != kept:
            shutil.rmtree(tmp_path / name)
    with mirrored(tmp_path, at_rest=at_rest) as server:
        assert_all_there(server)
        eventually(lambda: [len(blob_files(tmp_path / name)) for name in FOLDERS] == [len(blob_files(tmp_path / kept))] * 3)
        server.account("111122223333").client("s3").put_object(Bucket="bucket", Key="after", Body=b"x" * 50_000)


@pytest.mark.parametrize("at_rest", ["encrypted", "disk"])
def test_get_object_mends_a_damaged_copy(tmp_path: Path, at_rest: str) -> None:
    with mirrored(tmp_path, at_rest=at_rest) as server:
        fill(server)
        files = blob_files(tmp_path / "a")
        whole = {path: path.read_bytes() for path in files}
        assert [path.read_bytes() for path in blob_files(tmp_path / "b")] == list(whole.values())
        for number, path in enumerate(files):
            if number % 3 == 0:
                flip(path, path.stat().st_size // 2)
            elif number % 3 == 1:
                path.unlink()
            else:
                os.truncate(path, path.stat().st_size // 3)
        assert_all_there(server)
        assert {path: path.read_bytes() for path in files} == whole


def test_scrub_mends_and_reports(tmp_path: Path) -> None:
    with mirrored(tmp_path) as server:
        fill(server)
        files = [blob_files(tmp_path / name) for name in FOLDERS]
        whole = [path.read_bytes() for path in files[0]]
        assert server.cloud.scrubbing.run()["damaged"] == 0
        flip(files[0][0], 1000)
        flip(files[1][0], 100)
        files[2][1].unlink()
        flip(files[2][2], files[2][2].stat().st_size - 1)
        found = server.cloud.scrubbing.run()
        assert (found["damaged"], found["mended"], found["lost"], found["is_whole"]) == (4, 4, 0, True)
        assert all("mended" in name and "Object:bucket/k" in name for name in found["names"])
        assert [[path.read_bytes() for path in blob_files(tmp_path / name)] for name in FOLDERS] == [whole] * 3
        assert server.cloud.scrubbing.run()["damaged"] == 0
        assert server.cloud.scrubbing.status()["mirrors"] == ["good", "good"]


def test_scrub_mends_objects_under_keys_of_their_own(tmp_path: Path) -> None:
    with mirrored(tmp_path) as server:
        secure = server.cloud
        blob = secure.blobs.under((b"1" * 32,)).create()
        blob.write(b"data" * 100_000)
        blob.finish()
        secure.store.write(PutBody(blob.name, None))
        (path,) = [path for path in blob_files(tmp_path / "b") if path.name == blob.name]
        flip(path, 200_000)
        found = secure.scrubbing.run()
        assert (found["damaged"], found["mended"]) == (1, 1)
        flip(tmp_path / "a" / "blobs" / blob.name[-2:] / blob.name, 200_000)
        assert secure.blobs.under((b"1" * 32,)).read(blob.name) == b"data" * 100_000
        assert secure.scrubbing.run()["damaged"] == 0


def test_small_bytes_are_mended_from_another_copy(tmp_path: Path) -> None:
    with mirrored(tmp_path) as server:
        fill(server)
    store = sqlite3.connect(tmp_path / "a" / "records.sqlite")
    damaged = store.execute(
        "UPDATE small_body SET data = substr(data, 1, 50) || x'00' || substr(data, 52) WHERE substr(data, 51, 1) <> x'00'"
    )
    assert damaged.rowcount >= 2
    store.execute("UPDATE small_body SET data = CAST(data AS BLOB)")
    store.commit()
    store.close()
    with mirrored(tmp_path) as server:
        s3 = server.account("111122223333").client("s3")
        assert s3.get_object(Bucket="bucket", Key="k2")["Body"].read() == data_of(2)
        found = server.cloud.scrubbing.run()
        assert (found["damaged"], found["mended"]) == (damaged.rowcount - 1, damaged.rowcount - 1)
        assert_all_there(server)


def test_scrub_without_mirrors_reports_damage(tmp_path: Path) -> None:
    with TestServer(tmp_path / "a") as server:
        s3 = fill(server)
        assert server.cloud.scrubbing.run()["is_whole"]
        flip(blob_files(tmp_path / "a")[0], 5000)
        found = server.cloud.scrubbing.run()
        assert (found["damaged"], found["mended"], found["lost"], found["is_whole"]) == (1, 0, 1, False)
        key = found["names"][0].partition("Object:bucket/")[2].rstrip(")")
        with pytest.raises(Exception, match=r"InternalError|Connection|IncompleteRead|EndpointConnection|500"):
            s3.get_object(Bucket="bucket", Key=key)["Body"].read()


def test_pilvi_scrub_prints_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pilvi.cli.main import main

    with mirrored(tmp_path) as server:
        server.account("123456789012")
        fill(server)
        flip(blob_files(tmp_path / "c")[0], 5000)
        assert main(["scrub", "--data-dir", str(tmp_path / "a")]) == 0
        told = capsys.readouterr().out
        assert "found  1 damaged  1 mended  0 lost" in told
        assert main(["scrub", "--data-dir", str(tmp_path / "a"), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["damaged"] == 0
        assert main(["status", "--data-dir", str(tmp_path / "a")]) == 0
        assert f"mirror  {tmp_path / 'b'}  good" in capsys.readouterr().out


def test_a_mirror_that_fails_is_left_out_and_comes_back(tmp_path: Path) -> None:
    with mirrored(tmp_path) as server:
        s3 = fill(server)
        folder = server.cloud.stores.mirror.copies.folders[2]
        place = folder._folder
        folder._folder = "/dev/null/nowhere"
        s3.put_object(Bucket="bucket", Key="without", Body=b"w" * 100_000)
        assert server.cloud.scrubbing.status()["mirrors"][1] != "good"
        folder._folder = place
        s3.put_object(Bucket="bucket", Key="still without", Body=b"w" * 100_000)
        assert len(blob_files(tmp_path / "c")) == len(blob_files(tmp_path / "b")) - 2
    with mirrored(tmp_path) as server:
        eventually(lambda: len(blob_files(tmp_path / "c")) == len(blob_files(tmp_path / "b")))
        assert server.cloud.scrubbing.status()["mirrors"] == ["good", "good"]
        assert server.cloud.scrubbing.run()["damaged"] == 0


def test_a_mirror_started_without_is_brought_up_to_date(tmp_path: Path) -> None:
    with mirrored(tmp_path) as server:
        s3 = fill(server)
    with TestServer(tmp_path / "a") as server:
        s3 = server.account("111122223333").client("s3")
        s3.put_object(Bucket="bucket", Key="alone", Body=b"a" * 100_000)
        s3.delete_object(Bucket="bucket", Key="k4")
    with mirrored(tmp_path):
        eventually(lambda: len({tuple(path.name for path in blob_files(tmp_path / name)) for name in FOLDERS}) == 1)
    shutil.rmtree(tmp_path / "a")
    with mirrored(tmp_path) as server:
        s3 = server.account("111122223333").client("s3")
        assert s3.get_object(Bucket="bucket", Key="alone")["Body"].read() == b"a" * 100_000
        assert "k4" not in [entry["Key"] for entry in s3.list_objects_v2(Bucket="bucket")["Contents"]]


def test_another_clouds_directory_is_refused_as_mirror(tmp_path: Path) -> None:
    with mirrored(tmp_path / "one") as server:
        fill(server)
    with TestServer(tmp_path / "two") as server:
        fill(server)
    with pytest.raises(Unavailable, match="different clouds"):
        open_stores(Config(data_dir=tmp_path / "two", mirrors=str(tmp_path / "one" / "b")), is_first=True)


@pytest.mark.parametrize("settings", [{"records": "postgresql://x", "blobs": "s3://x"}, {"blobs": "/shared"}])
def test_mirrors_do_not_go_with_other_stores(tmp_path: Path, settings: dict[str, str]) -> None:
    with pytest.raises(Invalid, match="--mirror"):
        open_stores(Config(data_dir=tmp_path / "a", mirrors=str(tmp_path / "b"), **settings), is_first=True)


def test_a_copy_behind_by_a_batch_is_never_chosen(tmp_path: Path) -> None:
    """What a crash between two commits leaves: the file that is further wins, whichever it is."""
    paths = [tmp_path / name / "records.sqlite" for name in FOLDERS]
    for ahead in range(3):
        for path in paths:
            path.parent.mkdir(exist_ok=True)
        store = SqliteRecords(paths[0], copies=paths[1:])
        store.write(Put(ROWS, "x", {"n": ahead}))
        store.close()
        connection = sqlite3.connect(paths[ahead])
        connection.execute("UPDATE copy_state SET batch = batch + 1")
        connection.execute("INSERT INTO small_body VALUES (?, ?)", (1000 + ahead, b"only here"))
        connection.commit()
        connection.close()
        store = SqliteRecords(paths[0], copies=paths[1:])
        assert [store.body(f"#{1000 + number:016x}") for number in range(ahead + 1)] == [b"only here"] * (ahead + 1)
        store.close()


def test_put_object_in_one_zone_lies_in_one_directory(tmp_path: Path) -> None:
    """Losing that zone loses it, and nothing else."""
    with mirrored(tmp_path) as server:
        s3 = fill(server)
        before = [len(blob_files(tmp_path / name)) for name in FOLDERS]
        for size in (100, 500_000):
            s3.put_object(Bucket="bucket", Key=f"one{size}", Body=b"1" * size, StorageClass="ONEZONE_IA")
        s3.copy_object(Bucket="bucket", Key="copied", CopySource="bucket/k5", StorageClass="ONEZONE_IA")
        upload = s3.create_multipart_upload(Bucket="bucket", Key="parts", StorageClass="ONEZONE_IA")["UploadId"]
        target = {"Bucket": "bucket", "Key": "parts", "UploadId": upload}
        part = s3.upload_part(**target, PartNumber=1, Body=b"p" * 1000)["ETag"]
        s3.complete_multipart_upload(**target, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part}]})
        keys = {"one100": b"1" * 100, "one500000": b"1" * 500_000, "copied": data_of(5), "parts": b"p" * 1000}
        for key, data in keys.items():
            assert s3.get_object(Bucket="bucket", Key=key)["Body"].read() == data
        assert [len(blob_files(tmp_path / name)) for name in FOLDERS] == [before[0] + 4, *before[1:]]
        assert server.cloud.scrubbing.run()["damaged"] == 0
    shutil.rmtree(tmp_path / "a")
    with mirrored(tmp_path) as server:
        assert_all_there(server)
        s3 = server.account("111122223333").client("s3")
        assert s3.head_object(Bucket="bucket", Key="one100")["StorageClass"] == "ONEZONE_IA"
        for key in keys:
            with pytest.raises((botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError)):
                s3.get_object(Bucket="bucket", Key=key)["Body"].read()
