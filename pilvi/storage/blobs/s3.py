"""Blobs in any S3-compatible store: for several servers, and for more bytes than one machine holds.

    <prefix>/<last two digits of the name>/<name>      one object a blob, written once

Up to PART_BYTES a blob is one PutObject; beyond, a multipart upload whose parts go out while more comes in. Each request carries
the MD5 of what it brings, so what the store has taken is what was sent. What "acknowledged" means is then the store's to say: a
blob is finished when the store has answered, and as durable as the store makes what it answers (SeaweedFS, as it comes, leaves
syncing to the kernel; replicate there, or start its volumes with -fsync).

A read that breaks off goes on with a new request where it was. A blob that is deleted while somebody reads it may break that
read: what is on its way arrives, the rest is the store's choice. So services ask the deletion to wait (s3.content).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

from pilvi.core.errors import Invalid, NotFound, Unavailable
from pilvi.core.streams import Piece
from pilvi.storage.blobs import PIECE_BYTES, new_name, nobody

PART_BYTES = 8 << 20
PARTS_AHEAD = 3
CONNECTIONS = 64
TRIES = 4
SIZES = 4096


class S3BlobWriter:
    def __init__(self, blobs: S3Blobs) -> None:
        self.name = new_name()
        self._blobs = blobs
        self._pending = bytearray()
        self._upload = ""
        self._parts: list[Future[str]] = []
        self._size = 0
        self._is_open = True
        blobs.writing.add(self.name)

    def write(self, data: Piece | memoryview) -> None:
        self._size += len(data)
        left = memoryview(data)
        while left:
            room = PART_BYTES - len(self._pending)
            self._pending += left[:room]
            left = left[room:]
            if len(self._pending) == PART_BYTES and left:
                self._send()

    def finish(self) -> int:
        if self._upload:
            self._send()
            parts = [{"PartNumber": number, "ETag": part.result()} for number, part in enumerate(self._parts, 1)]
            self._blobs.complete(self.name, self._upload, parts)
        else:
            self._blobs.put(self.name, bytes(self._pending))
        self._is_open = False
        self._pending = bytearray()
        self._blobs.writing.discard(self.name)
        return self._size

    def abort(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        for part in self._parts:
            part.cancel()
        for part in self._parts:
            with contextlib.suppress(Exception):
                part.result()
        if self._upload:
            self._blobs.abort(self.name, self._upload)
        self._blobs.writing.discard(self.name)

    def _send(self) -> None:
        """The next part goes out in a thread; no more than a few are in memory."""
        if not self._upload:
            self._upload = self._blobs.begin(self.name)
        data, self._pending = bytes(self._pending), bytearray()
        number = len(self._parts) + 1
        self._parts.append(self._blobs.threads.submit(self._blobs.put_part, self.name, self._upload, number, data))
        if number > PARTS_AHEAD:
            self._parts[number - PARTS_AHEAD - 1].result()


class S3Stream:
    """A range as it comes over the network; begun again where it was when the line breaks."""

    def __init__(self, blobs: S3Blobs, name: str, start: int, end: int | None, piece_bytes: int) -> None:
        self._blobs = blobs
        self._name = name
        self._at = start
        self._end = end
        self._piece_bytes = piece_bytes
        self._tries = TRIES
        self._body = blobs.open(name, start, end)

    def __iter__(self) -> S3Stream:
        return self

    def __next__(self) -> bytes:
        while True:
            try:
                piece: bytes = self._body.read(self._piece_bytes) if self._body is not None else b""
            except self._blobs.broken as error:
                self._tries -= 1
                self.close()
                if self._tries <= 0:
                    raise Unavailable(f"Blob {self._name} could not be read to its end: {error}.") from error
                self._body = self._blobs.open(self._name, self._at, self._end)
                continue
            if not piece:
                self.close()
                raise StopIteration
            self._at += len(piece)
            return piece

    def close(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()


class S3Blobs:
    """The bucket is made when it is not there."""

    def __init__(self, place: str, endpoint: str, credentials: Mapping[str, str]) -> None:
        """place: s3://BUCKET/PREFIX. credentials: parameters of a botocore client."""
        import botocore.exceptions
        import urllib3.exceptions

        scheme, _, rest = place.partition("://")
        self._bucket, _, prefix = rest.partition("/")
        if scheme != "s3" or not self._bucket:
            raise Invalid(f"--blobs {place}: this is no s3://BUCKET/PREFIX.")
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self.broken = (botocore.exceptions.BotoCoreError, urllib3.exceptions.HTTPError, OSError)
        self._refused = botocore.exceptions.ClientError
        self._client = make_client(endpoint, credentials)
        self.threads = ThreadPoolExecutor(32, "blobs")
        self.writing: set[str] = set()
        """Names that this process is writing; the store may know nothing of them yet."""
        self._lock = threading.Lock()
        self._sizes = lru_cache(SIZES)(self._head)
        try:
            self._client.head_bucket(Bucket=self._bucket)
        except self._refused:
            self._call("create_bucket")
        except self.broken as error:
            raise Unavailable(f"--blobs {place}: {endpoint or 'AWS'} does not answer: {error}") from error

    def create(self) -> S3BlobWriter:
        return S3BlobWriter(self)

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        return b"".join(S3Stream(self, name, start, end, PIECE_BYTES))

    def stream(self, name: str, start: int = 0, end: int | None = None, piece_bytes: int = PIECE_BYTES) -> Iterator[Piece]:
        return S3Stream(self, name, start, end, piece_bytes)

    def path(self, name: str) -> Path | None:  # noqa: ARG002 - the port's signature
        return None

    def size(self, name: str) -> int:
        return self._sizes(name)

    def delete(self, name: str) -> None:
        self._sizes.cache_clear()
        if name.isalnum():
            self._call("delete_object", Key=self._key(name))

    def names(self) -> Iterator[str]:
        seen = set(self.writing)
        yield from seen
        for page in self._pages("list_objects_v2"):
            for entry in page.get("Contents", ()):
                name = entry["Key"].rpartition("/")[2]
                if name not in seen:
                    yield name
        for page in self._pages("list_multipart_uploads"):
            for entry in page.get("Uploads", ()):
                name = entry["Key"].rpartition("/")[2]
                if name not in seen:
                    seen.add(name)
                    yield name

    def sweep(self, keep: Iterable[str], spare: Callable[[str], bool] = nobody) -> int:
        loose = set(self.names())
        loose.difference_update(keep)
        gone = {name for name in loose if not spare(name)}
        for page in self._pages("list_multipart_uploads"):
            for entry in page.get("Uploads", ()):
                name = entry["Key"].rpartition("/")[2]
                if name in gone:
                    self.abort(name, entry["UploadId"])
        self._remove(sorted(gone))
        return len(gone)

    def clear(self) -> None:
        self.sweep(())

    # -- for writers and streams --------------------------------------------------------------------------------------

    def put(self, name: str, data: bytes) -> None:
        self._call("put_object", Key=self._key(name), Body=data, ContentMD5=md5_of(data))

    def begin(self, name: str) -> str:
        return str(self._call("create_multipart_upload", Key=self._key(name))["UploadId"])

    def put_part(self, name: str, upload: str, number: int, data: bytes) -> str:
        answer = self._call(
            "upload_part", Key=self._key(name), UploadId=upload, PartNumber=number, Body=data, ContentMD5=md5_of(data)
        )
        return str(answer["ETag"])

    def complete(self, name: str, upload: str, parts: list[dict[str, Any]]) -> None:
        self._call("complete_multipart_upload", Key=self._key(name), UploadId=upload, MultipartUpload={"Parts": parts})

    def abort(self, name: str, upload: str) -> None:
        with contextlib.suppress(Unavailable, NotFound):
            self._call("abort_multipart_upload", Key=self._key(name), UploadId=upload)

    def open(self, name: str, start: int, end: int | None) -> Any:
        """The body of a GET; None when the range has no bytes."""
        if end is not None and start >= end:
            self.size(name)
            return None
        wanted = {} if not start and end is None else {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
        try:
            return self._call("get_object", Key=self._key(name), **wanted)["Body"]
        except _NoBytes:
            return None

    # -- inside -------------------------------------------------------------------------------------------------------

    def _head(self, name: str) -> int:
        return int(self._call("head_object", Key=self._key(name))["ContentLength"])

    def _remove(self, names: list[str]) -> None:
        self._sizes.cache_clear()
        self.writing.difference_update(names)
        for at in range(0, len(names), 1000):
            objects = [{"Key": self._key(name)} for name in names[at : at + 1000] if name.isalnum()]
            answer = self._call("delete_objects", Delete={"Objects": objects, "Quiet": True})
            if answer.get("Errors"):
                raise Unavailable(f"The blob store did not delete {len(answer['Errors'])} blobs: {answer['Errors'][0]}.")

    def _pages(self, operation: str) -> Iterator[dict[str, Any]]:
        try:
            yield from self._client.get_paginator(operation).paginate(Bucket=self._bucket, Prefix=self._prefix)
        except (self._refused, *self.broken) as error:
            raise Unavailable(f"The blob store cannot be listed: {error}") from error

    def _call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = getattr(self._client, operation)(Bucket=self._bucket, **parameters)
        except self._refused as error:
            code = str(error.response.get("Error", {}).get("Code"))
            if code in ("NoSuchKey", "404", "NotFound", "NoSuchUpload"):
                raise NotFound(f"Blob {str(parameters.get('Key')).rpartition('/')[2]} does not exist.") from None
            if code in ("InvalidRange", "416", "RequestedRangeNotSatisfiable"):
                raise _NoBytes from None
            raise Unavailable(f"The blob store refuses {operation}: {error}") from error
        except self.broken as error:
            raise Unavailable(f"The blob store does not answer: {error}") from error
        return answer

    def _key(self, name: str) -> str:
        if not name.isalnum():
            raise NotFound(f"Blob {name} does not exist.")
        return f"{self._prefix}{name[-2:]}/{name}"


class _NoBytes(Exception):
    """The range begins behind the end."""


def make_client(endpoint: str, credentials: Mapping[str, Any]) -> Any:
    """A client that asks no profile, no environment and no instance for credentials."""
    import botocore.session
    from botocore.config import Config

    session = botocore.session.Session()
    session.set_config_variable("config_file", "/dev/null")
    session.set_config_variable("credentials_file", "/dev/null")
    if "aws_access_key_id" not in credentials:
        raise Invalid("--blobs s3://...: set PILVI_BLOBS_ACCESS_KEY_ID and PILVI_BLOBS_SECRET_ACCESS_KEY.")
    config = Config(
        s3={"addressing_style": "path" if endpoint else "auto"},
        retries={"mode": "standard", "total_max_attempts": TRIES},
        max_pool_connections=CONNECTIONS,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        connect_timeout=10,
        read_timeout=60,
    )
    return session.create_client("s3", endpoint_url=endpoint or None, config=config, **credentials)


def md5_of(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
