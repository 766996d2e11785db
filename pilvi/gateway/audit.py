"""One record per request: who, what, where, with which result. CloudTrail's record shape, one JSON document a line.

The hot path appends a tuple; one thread formats and writes what has gathered, several times a second. Files are
`audit/<day>.jsonl`, packed when their day or their size is over, and dropped after 90 days, as CloudTrail's event history.

Source: CloudTrail User Guide, "CloudTrail record contents".
Differs: records of a server that is killed may miss the last quarter of a second; they are never synced to the disk.
"""

from __future__ import annotations

import gzip
import threading
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from pilvi.core.clock import Clock
    from pilvi.gateway.call import Call

FLUSH_S = 0.25
KEEP_DAYS = 90
FILE_BYTES = 64 << 20

IDENTITY_TYPES = {
    "root": "Root",
    "user": "IAMUser",
    "assumed-role": "AssumedRole",
    "federated-user": "FederatedUser",
    "service": "AWSService",
    "anonymous": "AWSAccount",
}


class Audit:
    """Takes records without delay and writes them behind the scenes."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._waiting: deque[tuple[Any, ...]] = deque()
        self._wake = threading.Event()
        self._ended = False
        self._thread: threading.Thread | None = None
        self._encode = msgspec.json.Encoder().encode

    def start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._pack_and_drop(self._day(self._clock.time_s()))
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    def add(self, call: Call) -> None:
        """Note a finished call."""
        match = call.match
        operation = match.operation if match is not None else None
        self._waiting.append(
            (
                call.started,
                call.principal,
                match.service if match is not None else "",
                operation.name if operation is not None else "",
                call.region,
                call.request.client,
                call.request.headers.get("user-agent", ""),
                call.error_code,
                call.request_id,
                call.access[0].resource if call.access else "",
                call.request.method,
            )
        )

    def close(self) -> None:
        """Write what is left and stop."""
        self._ended = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._ended:
            self._wake.wait(FLUSH_S)
            self._flush()
        self._flush()

    def _flush(self) -> None:
        lines = []
        while self._waiting:
            lines.append(self._encode(record_of(*self._waiting.popleft())))
        if not lines:
            return
        day = self._day(self._clock.time_s())
        path = self._folder / f"{day}.jsonl"
        with path.open("ab") as file:
            fresh = file.tell() == 0
            file.write(b"\n".join(lines) + b"\n")
            full = file.tell() > FILE_BYTES
        if full:
            path.rename(self._folder / f"{day}.{self._clock.now():%H%M%S%f}.jsonl")
        if fresh or full:
            self._pack_and_drop(day)

    def _pack_and_drop(self, today: str) -> None:
        """Pack every finished file and remove those older than the history."""
        for path in self._folder.glob("*.jsonl"):
            if path.name != f"{today}.jsonl":
                packed = path.with_suffix(".jsonl.gz")
                with path.open("rb") as source, gzip.open(packed, "wb", 1) as target:
                    while piece := source.read(1 << 20):
                        target.write(piece)
                path.unlink()
        oldest = self._day(self._clock.time_s() - KEEP_DAYS * 86400)
        for path in self._folder.glob("*.jsonl.gz"):
            if path.name[:10] < oldest:
                path.unlink()

    @staticmethod
    def _day(time_s: float) -> str:
        return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d")


def record_of(
    started: float,
    principal: Any,
    service: str,
    operation: str,
    region: str,
    client: str,
    agent: str,
    error: str,
    request_id: str,
    resource: str,
    method: str,
) -> dict[str, Any]:
    """A CloudTrail record. `userIdentity` holds what is known of the caller, never a secret."""
    who: dict[str, Any] = {"type": IDENTITY_TYPES[principal.kind], "principalId": principal.user_id, "accountId": principal.account}
    if principal.arn:
        who["arn"] = principal.arn
    if principal.access_key_id:
        who["accessKeyId"] = principal.access_key_id
    record: dict[str, Any] = {
        "eventVersion": "1.11",
        "eventTime": datetime.fromtimestamp(started, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "eventSource": f"{service or 'unknown'}.amazonaws.com",
        "eventName": operation or method,
        "awsRegion": region,
        "sourceIPAddress": client,
        "userAgent": agent,
        "userIdentity": who,
        "requestID": request_id,
    }
    if resource:
        record["resources"] = [{"ARN": resource}]
    if error:
        record["errorCode"] = error
    return record
