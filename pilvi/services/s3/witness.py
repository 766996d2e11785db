"""Taking note of requests, for buckets where somebody wants to know: access logs, request metrics, storage class analysis.

    answered request -- witness --> a Sight -- access_log_line, request_metrics, analysis --> what gathers in memory
      -- a quarter of a second --> rows of "s3watch" -- schedule.py --> log objects, CloudWatch, exports

A bucket without such settings costs a look at its cached row. What a killed server had gathered in its last quarter of a second is
lost, as AWS delivers logs and figures "on a best effort basis".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from pilvi.core.errors import PilviError
from pilvi.core.principal import Principal
from pilvi.core.service import Cloud
from pilvi.core.streams import ByteStream
from pilvi.services.s3.catalog import WATCHED, Bucket, find_bucket
from pilvi.services.s3.copy_source import copy_source_of
from pilvi.services.s3.rounds import own_context
from pilvi.storage.records import Change, Put, Table

if TYPE_CHECKING:
    from pilvi.core.http import Request
    from pilvi.core.service import Answered

log = logging.getLogger("pilvi.s3")

SERVICE = "s3watch"
LINE, FIGURE, ACCESS = "Line", "Figure", "Access"
"""Nouns of what is kept: lines of logs, counts for CloudWatch, accesses for analyses."""
GATHER_S = 0.25
MEMORY = "s3:witness"
COPIES = ("CopyObject", "UploadPartCopy")


@dataclass(slots=True)
class Sight:
    """One answered request, as far as somebody may want to know of it."""

    bucket: Bucket
    operation: str
    """As the model names it; for sites `website`, `post-object`, `preflight`."""
    request: Request
    request_id: str
    host_id: str
    principal: Principal
    claim_kind: str
    """How it was signed: pilvi.auth.claim.ClaimKind; '' for not at all."""
    query: Mapping[str, str]
    key: str
    value: Mapping[str, Any] | None
    """The row of the object that was read."""
    params: Mapping[str, Any]
    status: int
    error_code: str
    at_s: float
    """When it came, on the product's clock."""
    turn_s: float
    """Until the answer was ready."""
    total_s: float
    """Until the answer was sent."""
    sent: int
    """Bytes of the answer's body."""
    deleted: tuple[tuple[str, str], ...] = ()
    """(key, version id) of what DeleteObjects deleted."""
    is_source: bool = False
    """The bucket is the one copied from."""


@dataclass(slots=True)
class Gathered:
    """What waits to be written down."""

    lines: dict[Table, tuple[Mapping[str, Any], list[str]]] = field(default_factory=dict)
    figures: dict[Table, dict[str, dict[str, float]]] = field(default_factory=dict)
    accesses: dict[Table, dict[str, list[int]]] = field(default_factory=dict)
    is_awaited: bool = False


def witness(cloud: Cloud, call: Answered) -> None:
    """Called for every request of S3; returns at once unless its bucket, or the one it copies from, is watched."""
    if WATCHED not in cloud.memory and not call.error_code:
        return  # what succeeded has read its bucket, so this would be known
    match = call.match
    name = match.path_params.get("Bucket") if match is not None else None
    if not name:
        return
    cache = cloud.memory.get("s3")
    bucket = cache.buckets.get(name) if cache is not None else None
    if bucket is None:
        bucket = look_up(cloud, call, name)
    copies = "x-amz-copy-source" in call.request.headers
    if bucket is None or (not bucket.is_watched and not copies):
        return
    sight = sight_of(cloud, call, bucket)
    seen = [sight] if bucket.is_watched else []
    if copies and (source := source_of(cloud, call, sight)) is not None:
        seen.append(source)
    if not seen:
        return
    body = call.response.body
    if isinstance(body, ByteStream) and body.data is None:
        body.after = lambda: conclude(cloud, call, seen)
    else:
        conclude(cloud, call, seen)


def look_up(cloud: Cloud, call: Answered, name: str) -> Bucket | None:
    try:
        return find_bucket(own_context(cloud, call.principal.account, call.region, "witness"), name)
    except PilviError:
        return None


def sight_of(cloud: Cloud, call: Answered, bucket: Bucket) -> Sight:
    match, response = call.match, call.response
    assert match is not None
    params: Mapping[str, Any] = getattr(call, "params", None) or {}
    found = params.get("_found")
    turn_s = max(0.0, cloud.clock.real_s() - call.started)
    deleted: tuple[tuple[str, str], ...] = ()
    operation = match.operation.name if match.operation is not None else match.site or "unknown"
    if operation == "DeleteObjects" and isinstance(call.result, Mapping):
        deleted = tuple((entry["Key"], entry.get("VersionId") or "") for entry in call.result.get("Deleted") or ())
    body = response.body
    return Sight(
        bucket,
        operation,
        call.request,
        call.request_id,
        next((value for name, value in response.headers if name == "x-amz-id-2"), ""),
        call.principal,
        call.claim.kind if call.claim is not None else "",
        dict(parse_qsl(call.request.query, keep_blank_values=True)),
        match.path_params.get("Key", ""),
        found.value if found is not None else None,
        params,
        response.status,
        call.error_code,
        cloud.clock.time_s() - turn_s,
        turn_s,
        turn_s,
        (len(body) if isinstance(body, bytes) else body.length or 0) if call.request.method != "HEAD" else 0,
        deleted,
    )


def source_of(cloud: Cloud, call: Answered, sight: Sight) -> Sight | None:
    """The same request as the bucket copied from sees it; None when nobody watches that one."""
    if sight.operation not in COPIES:
        return None
    try:
        source = copy_source_of({"CopySource": call.request.headers["x-amz-copy-source"]})
    except PilviError:
        return None
    bucket = look_up(cloud, call, source.bucket)
    if bucket is None or not bucket.is_watched:
        return None
    return Sight(
        **{
            name: getattr(sight, name)
            for name in Sight.__slots__
            if name not in ("bucket", "key", "value", "sent", "is_source", "query")
        },
        bucket=bucket,
        key=source.key,
        value=None,
        sent=0,
        is_source=True,
        query={"versionId": source.version_id} if source.version_id else {},
    )


def conclude(cloud: Cloud, call: Answered, seen: list[Sight]) -> None:
    """The answer has been sent."""
    from pilvi.services.s3 import access_log_line, analysis, request_metrics

    gathered = gathered_of(cloud)
    for sight in seen:
        sight.total_s = max(sight.turn_s, cloud.clock.real_s() - call.started)
        settings = sight.bucket.value
        if (to := settings.get("Logging")) is not None:
            lines = gathered.lines.setdefault(table_of(LINE, sight.bucket), (to, []))[1]
            lines += access_log_line.lines_of(sight)
        if (configurations := settings.get("MetricsConfigurations")) is not None:
            request_metrics.count(gathered.figures.setdefault(table_of(FIGURE, sight.bucket), {}), sight, configurations)
        if (configurations := settings.get("AnalyticsConfigurations")) is not None:
            analysis.count(gathered.accesses.setdefault(table_of(ACCESS, sight.bucket), {}), sight, configurations)
    if not gathered.is_awaited:
        gathered.is_awaited = True
        asyncio.get_running_loop().call_later(GATHER_S, write_down, cloud)


def gathered_of(cloud: Cloud) -> Gathered:
    gathered: Gathered | None = cloud.memory.get(MEMORY)
    if gathered is None:
        gathered = cloud.memory[MEMORY] = Gathered()
    return gathered


def table_of(noun: str, bucket: Bucket) -> Table:
    return Table(bucket.account, bucket.region, SERVICE, f"{noun}:{bucket.name}")


def write_down(cloud: Cloud) -> Future[None] | None:
    """What has gathered becomes rows, in one transaction that nobody waits for."""
    gathered: Gathered | None = cloud.memory.pop(MEMORY, None)
    if gathered is None:
        return None
    id = f"{int(cloud.clock.time_s() * 1_000_000):018d}-{cloud.ids.hex(8)}"
    changes: list[Change] = [Put(table, id, {"to": dict(to), "lines": lines}) for table, (to, lines) in gathered.lines.items()]
    changes += [Put(table, id, figures) for table, figures in gathered.figures.items() if figures]
    changes += [Put(table, id, accesses) for table, accesses in gathered.accesses.items() if accesses]
    if not changes:
        return None
    written = cloud.store.submit(changes)
    written.add_done_callback(told)
    return written


def told(written: Future[None]) -> None:
    if (error := written.exception()) is not None:
        log.warning("what was seen of requests could not be kept: %s", error)


def settle(cloud: Cloud) -> None:
    """Before reading the rows, in a thread: what this process has gathered by now is written down."""
    if (written := write_down(cloud)) is not None:
        written.exception()


def close(cloud: Cloud) -> None:
    """The server stops."""
    settle(cloud)
