"""What becomes of an object when the store of bytes fails after the object was written, and of bytes whose writer was cancelled."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pilvi.core.errors import Unavailable
from pilvi.core.streams import ByteStream
from pilvi.services.s3.content import Intake
from pilvi.services.s3.digest import declared_by
from pilvi.storage.blobs.files import FileBlobs
from pilvi.testing.server import TestServer

LARGE = 300_000


@pytest.fixture
def failing(tmp_path: Path) -> Any:
    """A server whose store of bytes deletes nothing."""
    with TestServer(tmp_path) as server:
        s3 = server.account("123456789012").client("s3")
        s3.create_bucket(Bucket="release")

        def refuse(_name: str) -> None:
            raise Unavailable("The blob store does not answer.")

        server.cloud.blobs.delete = refuse
        yield s3


def test_put_object_over_bytes_that_cannot_be_deleted_keeps_the_new_ones(failing: Any) -> None:
    failing.put_object(Bucket="release", Key="k", Body=b"a" * LARGE)
    failing.put_object(Bucket="release", Key="k", Body=b"b" * LARGE)
    assert failing.get_object(Bucket="release", Key="k")["Body"].read() == b"b" * LARGE


def test_delete_object_whose_bytes_cannot_be_deleted_succeeds(failing: Any) -> None:
    failing.put_object(Bucket="release", Key="k", Body=b"a" * LARGE)
    failing.delete_object(Bucket="release", Key="k")
    assert "Contents" not in failing.list_objects_v2(Bucket="release")


def test_an_abandoned_body_takes_nothing_more(tmp_path: Path) -> None:
    async def run() -> None:
        blobs = FileBlobs(tmp_path)
        body = ByteStream(b"")
        intake = Intake(blobs, declared_by({}, body), body)
        await intake.work([b"a" * LARGE])
        intake.abandon()
        await intake.work([b"b" * LARGE])
        intake.finish()
        assert list(blobs.names()) == []

    asyncio.run(run())
