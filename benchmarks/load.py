"""What is sent: the requests boto3 sends, signed beforehand, and the two ways to send them.

Small ones are replayed for some seconds by wrk (or by replay.py where there is no wrk); large ones and those that count only
once (deletions, uploads) are sent each once by send.py.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from botocore.awsrequest import AWSResponse
from botocore.client import BaseClient
from botocore.credentials import Credentials

HERE = Path(__file__).parent
REGION = "us-east-1"
SIGNED_AT_ONCE = 50_000
"""A signature is good for a quarter of an hour."""


@dataclass(frozen=True)
class Result:
    requests: int
    seconds: float
    refused: int
    broken: int
    p50_us: int
    p99_us: int

    @property
    def per_s(self) -> float:
        return self.requests / self.seconds


class _Answer:
    """What boto3 reads in place of an answer."""

    def stream(self) -> Iterator[bytes]:
        return iter((b"",))

    def read(self, *_: Any) -> bytes:
        return b""


def as_sent(client: BaseClient, calls: Iterable[Callable[[], object]]) -> list[bytes]:
    """The requests that boto3 makes of these calls, as they stand on the wire (good for a quarter of an hour)."""
    caught: list[bytes] = []

    def catch(request: Any, **_: Any) -> AWSResponse:
        caught.append(wire(request))
        return AWSResponse(request.url, 200, {}, _Answer())

    client.meta.events.register_first("before-send.*.*", catch)
    try:
        for call in calls:
            call()
    finally:
        client.meta.events.unregister("before-send.*.*", catch)
    return caught


def wire(request: Any) -> bytes:
    body = request.body or b""
    body = body.encode() if isinstance(body, str) else body if isinstance(body, bytes) else body.read()
    parts = urlsplit(request.url)
    target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    lines = [f"{request.method} {target} HTTP/1.1", f"Host: {parts.netloc}"]
    for name, value in request.headers.items():
        if name.lower() not in ("host", "expect", "content-length"):
            lines.append(f"{name}: {value.decode() if isinstance(value, bytes) else value}")
    if body or request.method in ("PUT", "POST"):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def puts(endpoint: str, credentials: Credentials, bucket: str, keys: Iterable[str], body: bytes = b"") -> Iterator[bytes]:
    """PutObject of the same bytes for each key; signed by hand, because a million of them by botocore take minutes."""
    host = urlsplit(endpoint).netloc
    digest = hashlib.sha256(body).hexdigest()
    names = "host;x-amz-content-sha256;x-amz-date"
    for number, name in enumerate(keys):
        if number % SIGNED_AT_ONCE == 0:
            stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
            scope = f"{stamp[:8]}/{REGION}/s3/aws4_request"
            key = b"AWS4" + credentials.secret_key.encode()
            for part in scope.split("/"):
                key = hmac.digest(key, part.encode(), "sha256")
            rest = f"\n\nhost:{host}\nx-amz-content-sha256:{digest}\nx-amz-date:{stamp}\n\n{names}\n{digest}"
            claim = (
                f"Authorization: AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature="
            )
            head = f"\r\nContent-Length: {len(body)}\r\nx-amz-content-sha256: {digest}\r\nx-amz-date: {stamp}\r\n\r\n"
        path = f"/{bucket}/{name}"
        canonical = hashlib.sha256(f"PUT\n{path}{rest}".encode()).hexdigest()
        signature = hmac.digest(key, f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{canonical}".encode(), "sha256").hex()
        yield f"PUT {path} HTTP/1.1\r\nHost: {host}\r\n{claim}{signature}{head}".encode() + body


def replay(endpoint: str, requests: Iterable[bytes], connections: int, seconds: float, folder: Path) -> Result:
    """Send these requests again and again for some seconds."""
    path = folder / "requests"
    path.write_bytes(b"".join(b"%d\n" % len(request) + request for request in requests))
    parts = urlsplit(endpoint)
    if wrk := shutil.which("wrk"):
        threads = min(2, connections, os.cpu_count() or 1)
        options = [f"-t{threads}", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s", "--latency"]
        command = [wrk, *options, "-s", str(HERE / "replay.lua"), endpoint, str(path)]
    else:
        wanted = [str(parts.hostname), str(parts.port), str(connections), str(seconds), str(path)]
        command = [sys.executable, str(HERE / "replay.py"), *wanted]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{command[0]} did not come to an end") from None
    line = next((line for line in done.stdout.splitlines() if line.startswith("{")), None)
    if line is None:
        raise RuntimeError(f"{command[0]} says: {done.stdout} {done.stderr}")
    values = json.loads(line)
    values.pop("bytes")
    return Result(**values)
