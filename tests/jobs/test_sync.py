"""Folders that go to S3 while a program works in them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pilvi.core.errors import ServiceError
from pilvi.core.streams import ByteStream
from pilvi.jobs.sync import Sync
from pilvi.jobs.transfer import TransferFailed


class Bucket:
    """A context that knows PutObject."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.is_closed = False

    def call(self, _service: str, operation: str, /, **params: Any) -> dict[str, Any]:
        assert operation == "PutObject"
        if self.is_closed:
            raise ServiceError("AccessDenied", "Access Denied", 403)
        params["Key"].encode()
        self.sent.append((params["Key"], bytes(ByteStream.of(params["Body"]).read_now())))
        return {}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "host" / "root" / "checkpoints"
    place.mkdir(parents=True)
    return place


def made(folder: Path) -> Sync:
    return Sync(folder.parent.parent, folder, "s3://b/points/")


def look(sync: Sync, bucket: Bucket, *, is_last: bool = False) -> list[tuple[str, bytes]]:
    before = len(bucket.sent)
    sync.bring(bucket, is_last=is_last)  # type: ignore[arg-type]
    return bucket.sent[before:]


def test_a_name_that_is_no_text_is_told_and_the_others_go(folder: Path) -> None:
    sync, bucket = made(folder), Bucket()
    os.close(os.open(os.fsencode(folder) + b"/bad\xff", os.O_CREAT | os.O_WRONLY))
    (folder / "good").write_text("1")
    with pytest.raises(TransferFailed, match="Failed to read"):
        look(sync, bucket, is_last=True)
    assert bucket.sent == [("points/good", b"1")]


def test_a_file_goes_when_it_keeps_still(folder: Path) -> None:
    (folder / "restored").write_text("old")
    sync, bucket = made(folder), Bucket()
    (folder / "a").write_text("1")
    assert look(sync, bucket) == []
    assert look(sync, bucket) == [("points/a", b"1")]
    assert look(sync, bucket) == []
    (folder / "deep").mkdir()
    (folder / "deep" / "b").write_text("2")
    (folder / "a").unlink()
    assert look(sync, bucket, is_last=True) == [("points/deep/b", b"2")]


def test_a_file_that_never_keeps_still_goes_all_the_same(folder: Path) -> None:
    sync, bucket = made(folder), Bucket()
    found = []
    for number in range(4):
        (folder / "new").write_text(str(number))
        (folder / "new").rename(folder / "step")
        os.utime(folder / "step", ns=(0, number))
        found.append(look(sync, bucket))
    assert found == [[], [], [("points/step", b"2")], []]


def test_what_cannot_be_sent_is_tried_again(folder: Path) -> None:
    sync, bucket = made(folder), Bucket()
    (folder / "a").write_text("1")
    bucket.is_closed = True
    with pytest.raises(TransferFailed, match=r"Failed to upload data to s3://b/points\. AccessDenied"):
        look(sync, bucket, is_last=True)
    bucket.is_closed = False
    assert look(sync, bucket, is_last=True) == [("points/a", b"1")]


def test_links_are_not_followed_wherever_they_are(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("k")
    sync, bucket = made(folder), Bucket()
    (folder / "link").symlink_to(secret / "key")
    (folder / "folder").symlink_to(secret)
    os.mkfifo(folder / "pipe")
    assert look(sync, bucket, is_last=True) == []
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.symlink_to(secret)
    assert look(sync, bucket, is_last=True) == []
