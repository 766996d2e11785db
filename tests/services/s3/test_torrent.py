"""GetObjectTorrent: what AWS no longer does is refused."""

from __future__ import annotations

from typing import Any

from tests.services.s3.conftest import refused


def test_get_object_torrent_is_refused(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="o", Body=b"1")
    error = refused(s3.get_object_torrent, Bucket=bucket, Key="o")
    assert (error["Code"], error["Status"]) == ("MethodNotAllowed", 405)
    assert refused(s3.get_object_torrent, Bucket="no-such-bucket-here", Key="o")["Code"] == "NoSuchBucket"
