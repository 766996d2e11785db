"""What is measured: each part's requests, how they are sent, and what lies in a server beforehand."""

from __future__ import annotations

import hashlib
import os
import random
import time
import zlib
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tree
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from load import Result, as_sent, puts, replay
from send import send_large, send_small
from servers import Server

BUCKET = "bench-bucket"
LISTED = "bench-listed"
SIZES = {"1k": 1 << 10, "64k": 64 << 10, "64m": 64 << 20}
KEYS = {"1k": 512, "64k": 128, "64m": 2}
RANGE_BYTES = 64 << 10
RANGES = 512
DEEP = 32
PART_BYTES = 8 << 20
"""What boto3's transfers cut objects into."""
UPLOAD_PARTS = 32
FILL_LINES = 32
FILL_S = 200.0

PARTS = {
    "put1k": "PUT 1 KiB",
    "put64k": "PUT 64 KiB",
    "put64m": "PUT 64 MiB",
    "get1k": "GET 1 KiB",
    "get64k": "GET 64 KiB",
    "get64m": "GET 64 MiB",
    "range64k": "GET 64 KiB of 64 MiB",
    "list": "LIST 1,000, first page",
    "listdeep": "LIST 1,000, deep",
    "delete": "DELETE",
    "up": "256 MiB up, 32 parts",
    "down": "256 MiB down, 32 ranges",
    "sts": "STS GetCallerIdentity",
}
READS = ("get1k", "get64k", "get64m", "range64k")
NEEDED = {"get1k": "1k", "get64k": "64k", "get64m": "64m", "range64k": "64m"}


@dataclass(frozen=True)
class Measured:
    cpu_us: float
    """Server CPU per request (per object for `up` and `down`), whole tree."""
    per_s: float
    p50_us: int
    p99_us: int
    failed: int


@dataclass
class Bench:
    """One server under measurement."""

    server: Server
    seconds: float
    keys: int
    """Objects in the bucket that is listed."""
    folder: Path
    fill_s: float = 0.0
    _signed: dict[str, list[bytes]] = field(default_factory=dict)
    _lacking: dict[str, str] = field(default_factory=dict)
    """Parts whose objects the server would not keep, and what it said."""
    _clients: dict[str, Any] = field(default_factory=dict)

    def measure(self, part: str, connections: int) -> Measured:
        """CPU from before to after a load that begins warm. RuntimeError where what it reads could not be stored."""
        if part in self._lacking:
            raise RuntimeError(self._lacking[part])
        if part in ("delete", "up"):
            return self._once(part, connections)
        requests = self._signed.get(part) or self._signed.setdefault(part, self._requests(part))
        if part in ("put64m", "get64m", "down"):
            return self._large(part, requests, connections)
        replay(self.server.endpoint, requests, connections, 1.0, self.folder)
        before = self._cpu_s()
        return self._measured(before, replay(self.server.endpoint, requests, connections, self.seconds, self.folder))

    def fill(self, parts: list[str]) -> None:
        """The objects that are asked for."""
        for size in sorted({NEEDED[part] for part in parts if part in NEEDED}):
            if self.server.name == "nginx":
                home = self.folder / "nginx" / "files" / BUCKET
                home.mkdir(exist_ok=True)
                for key in keys_of(size):
                    (home / key).write_bytes(os.urandom(SIZES[size]))
            else:
                for key in keys_of(size):
                    self._s3.put_object(Bucket=BUCKET, Key=key, Body=os.urandom(SIZES[size]))
        if "down" in parts:
            try:
                self._upload(4)
            except (BotoCoreError, ClientError) as error:
                self._lacking["down"] = str(error)
        if {"list", "listdeep"} & set(parts):
            self._fill_listed()

    def make_buckets(self) -> None:
        if self.server.name != "nginx":
            for bucket in (BUCKET, LISTED):
                self._s3.create_bucket(Bucket=bucket)

    # -- how each is asked --------------------------------------------------------------------------------------------

    def _requests(self, part: str) -> list[bytes]:
        if part == "sts":
            return self._sts()
        s3 = self._s3
        if part.startswith("put"):
            size = part[3:]
            bodies = [(key, os.urandom(SIZES[size])) for key in keys_of(size)]
            return as_sent(s3, [lambda k=key, b=body: s3.put_object(Bucket=BUCKET, Key=k, Body=b) for key, body in bodies])
        if part == "range64k":
            return as_sent(s3, [lambda r=each: s3.get_object(Bucket=BUCKET, **r)["Body"].read() for each in ranges()])
        if part == "list":
            return as_sent(s3, [lambda: s3.list_objects_v2(Bucket=LISTED)])
        if part == "listdeep":
            starts = [listed_key(self.keys * (70 + at % 29) // 100 + at) for at in range(DEEP)]
            return as_sent(s3, [lambda a=after: s3.list_objects_v2(Bucket=LISTED, StartAfter=a) for after in starts])
        if part == "down":
            wanted = [f"bytes={at}-{at + PART_BYTES - 1}" for at in range(0, UPLOAD_PARTS * PART_BYTES, PART_BYTES)]
            return as_sent(s3, [lambda r=each: s3.get_object(Bucket=BUCKET, Key="multipart", Range=r) for each in wanted])
        return as_sent(s3, [lambda k=key: s3.get_object(Bucket=BUCKET, Key=k) for key in keys_of(part[3:])])

    def _large(self, part: str, requests: list[bytes], connections: int) -> Measured:
        """Each once or some times: a load cut off in the middle of large bodies would count work that no request is told of."""
        count = (32 if connections > 1 else 8) if self.seconds > 1 else 16 if connections > 1 else 3
        if part == "down":
            count = UPLOAD_PARTS * (2 if self.seconds > 1 else 1)
        chosen = [requests[at % len(requests)] for at in range(count)]
        send_large(self.server.endpoint, chosen[: max(1, count // 8)], min(connections, 2))
        before = self._cpu_s()
        result = send_large(self.server.endpoint, chosen, connections)
        return self._measured(before, result, UPLOAD_PARTS if part == "down" else 1)

    def _once(self, part: str, connections: int) -> Measured:
        if part == "up":
            parts, complete = self._begin_upload()
            before = self._cpu_s()
            result = send_large(self.server.endpoint, parts, connections)
            complete()
            return self._measured(before, result, UPLOAD_PARTS)
        count = 2000 if connections > 1 and self.seconds > 1 else 400
        keys = [f"delete/{at:05}" for at in range(count)]
        self._send_all(puts(self.server.endpoint, self.server.credentials, BUCKET, keys, os.urandom(SIZES["1k"])))
        requests = as_sent(self._s3, [lambda k=key: self._s3.delete_object(Bucket=BUCKET, Key=k) for key in keys])
        self._settle()
        before = self._cpu_s()
        return self._measured(before, send_small(self.server.endpoint, requests, connections))

    def _measured(self, before: float, result: Result, unit: int = 1) -> Measured:
        self._settle()
        done = max(1, result.requests) / unit
        failed = result.refused + result.broken
        return Measured((self._cpu_s() - before) / done * 1e6, result.per_s / unit, result.p50_us, result.p99_us, failed)

    # -- what lies there ----------------------------------------------------------------------------------------------

    def _begin_upload(self) -> tuple[list[bytes], Any]:
        """The parts of a multipart upload, signed, and what completes it."""
        s3, where = self._s3, {"Bucket": BUCKET, "Key": "multipart"}
        where["UploadId"] = s3.create_multipart_upload(Bucket=BUCKET, Key="multipart", ChecksumAlgorithm="CRC32")["UploadId"]
        body = os.urandom(PART_BYTES)
        numbers = range(1, UPLOAD_PARTS + 1)
        parts = as_sent(s3, [lambda n=number: s3.upload_part(**where, PartNumber=n, Body=body) for number in numbers])

        etag, crc32 = hashlib.md5(body, usedforsecurity=False).hexdigest(), b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
        chosen = [{"PartNumber": number, "ETag": etag, "ChecksumCRC32": crc32} for number in numbers]

        def complete() -> None:
            s3.complete_multipart_upload(**where, MultipartUpload={"Parts": chosen})

        return parts, complete

    def _upload(self, connections: int) -> None:
        parts, complete = self._begin_upload()
        send_large(self.server.endpoint, parts, connections)
        complete()

    def _fill_listed(self) -> None:
        """As many keys as there are to be, or as many as can be stored in a few minutes."""
        begun = time.perf_counter()

        def names() -> Iterator[str]:
            for at in range(self.keys):
                if time.perf_counter() - begun > FILL_S:
                    self.keys = at
                    return
                yield listed_key(at)

        self._send_all(puts(self.server.endpoint, self.server.credentials, LISTED, names()))
        self.fill_s = time.perf_counter() - begun

    def _send_all(self, requests: Iterator[bytes]) -> None:
        result = send_small(self.server.endpoint, requests, FILL_LINES)
        if result.refused or result.broken:
            raise RuntimeError(
                f"{self.server.name} refused {result.refused} of {result.requests} objects, and {result.broken} connections broke"
            )

    def _sts(self) -> list[bytes]:
        sts = self._client("sts")

        def ask() -> None:
            with suppress(ResponseParserError):  # nothing stands in for an answer, but the request was caught
                sts.get_caller_identity()

        return as_sent(sts, [ask])

    # -- small acts ---------------------------------------------------------------------------------------------------

    @property
    def _s3(self) -> Any:
        return self._client("s3")

    def _client(self, service: str) -> Any:
        found = self._clients.get(service)
        if found is None:
            found = self._clients[service] = self.server.client(service)
        return found

    def _cpu_s(self) -> float:
        return tree.cpu_s(self.server.pid)

    def _settle(self) -> None:
        """Work that a server put off belongs to its requests: wait (a little) until it is idle."""
        for _ in range(10):
            before = self._cpu_s()
            time.sleep(0.05)
            if self._cpu_s() - before < 0.01:
                return


def keys_of(size: str) -> list[str]:
    return [f"{size}-{at:04}" for at in range(KEYS[size])]


def listed_key(number: int) -> str:
    return f"table/year={2000 + number // 50_000}/part-{number:07}.parquet"


def ranges() -> list[dict[str, str]]:
    """What readers of Parquet ask for: 64 KiB from anywhere."""
    chance = random.Random(7)
    found = []
    for at in range(RANGES):
        start = chance.randrange(SIZES["64m"] - RANGE_BYTES)
        found.append({"Key": keys_of("64m")[at % KEYS["64m"]], "Range": f"bytes={start}-{start + RANGE_BYTES - 1}"})
    return found
