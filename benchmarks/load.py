"""What is sent: signed requests prepared beforehand, replayed by wrk (or by replay.py where there is no wrk)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

HERE = Path(__file__).parent
BUCKET = "bench-bucket"
SMALL_KEYS = 512
SMALL_BYTES = 1024
LARGE_KEYS = 2
LARGE_BYTES = 64 << 20
REGION = "us-east-1"


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


class Unhashed(S3SigV4Auth):
    """Signs the head only, as clients do over TLS."""

    def payload(self, request: AWSRequest) -> str:  # noqa: ARG002 - botocore's signature
        return "UNSIGNED-PAYLOAD"


def signed(service: str, method: str, url: str, credentials: Credentials, body: bytes = b"", **headers: str) -> bytes:
    """One request as it stands on the wire, signed by botocore (good for a quarter of an hour)."""
    parts = urlsplit(url)
    request = AWSRequest(method, url, data=body, headers={"Host": parts.netloc, **headers})
    signer = SigV4Auth if service != "s3" else Unhashed if body else S3SigV4Auth
    signer(credentials, service, REGION).add_auth(request)
    lines = [f"{method} {parts.path or '/'} HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers.items())]
    if method != "GET":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def requests_for(part: str, endpoint: str, credentials: Credentials) -> list[bytes]:
    if part == "sts":
        body = b"Action=GetCallerIdentity&Version=2011-06-15"
        kind = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
        return [signed("sts", "POST", f"{endpoint}/", credentials, body, **kind)]
    if part == "get64m":
        return [signed("s3", "GET", f"{endpoint}/{BUCKET}/large-{number}", credentials) for number in range(LARGE_KEYS)]
    small = [f"{endpoint}/{BUCKET}/small/{number:04}" for number in range(SMALL_KEYS)]
    if part == "get1k":
        return [signed("s3", "GET", url, credentials) for url in small]
    return [
        signed("s3", "PUT", url, credentials, os.urandom(SMALL_BYTES), **{"Content-Type": "application/octet-stream"})
        for url in small
    ]


def replay(endpoint: str, requests: Iterable[bytes], connections: int, seconds: float, folder: Path) -> Result:
    path = folder / "requests"
    path.write_bytes(b"".join(b"%d\n" % len(request) + request for request in requests))
    parts = urlsplit(endpoint)
    if wrk := shutil.which("wrk"):
        threads = min(2, connections)
        options = [f"-t{threads}", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s", "--latency"]
        command = [wrk, *options, "-s", str(HERE / "replay.lua"), endpoint, str(path)]
    else:
        command = [
            sys.executable,
            str(HERE / "replay.py"),
            str(parts.hostname),
            str(parts.port),
            str(connections),
            str(seconds),
            str(path),
        ]
    said = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=True).stdout
    line = next(line for line in said.splitlines() if line.startswith("{"))
    values = json.loads(line)
    values.pop("bytes")
    return Result(**values)
