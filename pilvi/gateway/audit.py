"""One record per request: who, what, where, with which result. CloudTrail's record shape, one JSON document a line.

The hot path appends a finished line, put together from parts that are formatted once (who, when, which client), because objects
that wait for a thread cost more than the text they become; one thread writes what has gathered, several times a second. Files are
`audit/<day>.jsonl`, packed when their day or their size is over, and dropped after 90 days, as CloudTrail's event history.

Source: CloudTrail User Guide, "CloudTrail record contents".
Differs: records of a server that is killed may miss the last quarter of a second; they are never synced to the disk.
"""

from __future__ import annotations

import gzip
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pilvi.core.principal import Principal

if TYPE_CHECKING:
    from pilvi.core.clock import Clock
    from pilvi.core.service import Context
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
        self._lines: list[str] = []
        self._second = (0, "")
        self._wake = threading.Event()
        self._ended = False
        self._writing: threading.Thread | None = None

    def start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._pack_and_drop(self._day(self._clock.real_s()))
        self._writing = threading.Thread(target=self._run, name="audit", daemon=True)
        self._writing.start()

    def add(self, call: Call) -> None:
        """Note a finished call."""
        match, request = call.match, call.request
        operation = match.operation if match is not None else None
        service = match.service if match is not None and match.service else "unknown"
        name = operation.name if operation is not None else request.method
        agent = request.headers.get("user-agent", "")
        resource = call.access[0].resource if call.access else ""
        self.note(
            call.started,
            service,
            name,
            call.region,
            request.client,
            agent,
            call.principal,
            call.request_id,
            resource,
            call.error_code,
        )

    def note(
        self,
        started: float,
        service: str,
        operation: str,
        region: str,
        client: str,
        agent: str,
        principal: Principal,
        request_id: str,
        resource: str,
        error_code: str = "",
    ) -> None:
        """The same, of what is known of it."""
        second = int(started)
        if second != self._second[0]:
            self._second = (second, datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
        resources = f',"resources":[{{"ARN":{json_string(resource)}}}]' if resource else ""
        error = f',"errorCode":{quoted(error_code)}' if error_code else ""
        frame = frame_of(service, operation, region, client, agent, principal)
        self._lines.append(f'{{"eventVersion":"1.11","eventTime":"{self._second[1]}"{frame}{request_id}"{resources}{error}}}\n')

    def add_inside(self, ctx: Context, service: str, operation: str, params: Mapping[str, Any], error_code: str) -> None:
        """Note what a service did with another one on behalf of its caller: which key was used for what."""
        record: dict[str, Any] = {
            "eventVersion": "1.11",
            "eventTime": f"{self._clock.real_now():%Y-%m-%dT%H:%M:%SZ}",
            "eventSource": f"{service}.amazonaws.com",
            "eventName": operation,
            "awsRegion": ctx.region,
            "sourceIPAddress": f"{ctx.service}.amazonaws.com",
            "userAgent": f"{ctx.service}.amazonaws.com",
            "userIdentity": msgspec.Raw(who_of(ctx.principal.arn, ctx.principal.access_key_id, ctx.principal).encode()),
            "requestID": ctx.request_id,
            "requestParameters": {
                name[:1].lower() + name[1:]: params[name] for name in ("KeyId", "EncryptionContext") if name in params
            },
        }
        if error_code:
            record["errorCode"] = error_code
        self._lines.append(_encode(record).decode() + "\n")

    def close(self) -> None:
        """Write what is left and stop."""
        self._ended = True
        self._wake.set()
        if self._writing is not None:
            self._writing.join()

    def _run(self) -> None:
        while not self._ended:
            self._wake.wait(FLUSH_S)
            self._flush()
        self._flush()

    def _flush(self) -> None:
        count = len(self._lines)
        if not count:
            return
        lines = self._lines[:count]
        del self._lines[:count]  # whatever was appended meanwhile stays
        day = self._day(self._clock.real_s())
        path = self._folder / f"{day}.jsonl"
        with path.open("ab") as file:
            fresh = file.tell() == 0
            file.write("".join(lines).encode())
            full = file.tell() > FILE_BYTES
        if full:
            path.rename(self._folder / f"{day}.{self._clock.real_now():%H%M%S%f}.jsonl")
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
        oldest = self._day(self._clock.real_s() - KEEP_DAYS * 86400)
        for path in self._folder.glob("*.jsonl.gz"):
            if path.name[:10] < oldest:
                path.unlink()

    @staticmethod
    def _day(time_s: float) -> str:
        return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d")


def json_string(text: str) -> str:
    return _encode(text).decode()


quoted = lru_cache(maxsize=4096)(json_string)
"""Operations, Regions and clients come again and again."""


_encode = msgspec.json.Encoder().encode
_known: dict[tuple[str, str], tuple[Principal, str]] = {}
_frames: dict[tuple[str, str, str, str, str, str, str], tuple[Principal, str]] = {}
FRAMES = 4096
AGENT_CHARACTERS = 512


def frame_of(service: str, operation: str, region: str, client: str, agent: str, principal: Principal) -> str:
    """What stands between the time of a record and its request id: the same for most of what a client asks."""
    key = (service, operation, region, client, agent, principal.arn, principal.access_key_id)
    known = _frames.get(key)
    if known is not None and known[0] is principal:
        return known[1]
    who = who_of(principal.arn, principal.access_key_id, principal)
    text = (
        f',"eventSource":"{service}.amazonaws.com","eventName":{quoted(operation)},"awsRegion":{quoted(region)},'
        f'"sourceIPAddress":{quoted(client)},"userAgent":{quoted(agent)},"userIdentity":{who},"requestID":"'
    )
    if len(agent) > AGENT_CHARACTERS:
        return text
    if len(_frames) >= FRAMES:
        _frames.clear()
    _frames[key] = (principal, text)
    return text


def who_of(arn: str, access_key_id: str, principal: Principal) -> str:
    """`userIdentity` as JSON: what is known of the caller, never a secret."""
    known = _known.get((arn, access_key_id))
    if known is not None and known[0] is principal:
        return known[1]
    who: dict[str, Any] = {"type": IDENTITY_TYPES[principal.kind], "principalId": principal.user_id, "accountId": principal.account}
    if arn:
        who["arn"] = arn
    if access_key_id:
        who["accessKeyId"] = access_key_id
    text = _encode(who).decode()
    if len(_known) > 4096:
        _known.clear()
    _known[arn, access_key_id] = (principal, text)
    return text
