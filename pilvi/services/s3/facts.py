"""What happens to objects, as facts for whoever listens to a bucket: AWS's event names, and all that its event records tell.

    Plan.facts: Happened(kind, key, row) --recordings--> one entry for each listener, in the transaction of the write itself

A bucket without listeners makes no facts. Who listens is read off the bucket's row (`catalog.LISTENERS`).

Source: Amazon S3 User Guide, "Supported event types for SQS, SNS, and Lambda", "Event message structure".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pilvi.core.service import Context
from pilvi.events.told import CONSUMER as TOLD
from pilvi.services.s3 import bridge
from pilvi.services.s3.catalog import Bucket
from pilvi.services.s3.classes import event_data
from pilvi.services.s3.replication_rules import COMPLETED, FAILED, PENDING, mark_pending
from pilvi.storage.records import Change

CREATED = "created"
"""A version that has become what is current."""
MARKED = "marked"
"""A delete marker that hides the object."""
REMOVED = "removed"
"""An object, a version or a marker that is gone for good."""

CREATED_BY = {"CopyObject": "Copy", "CompleteMultipartUpload": "CompleteMultipartUpload"}
METADATA = ("ObjectTagging:", "ObjectAcl:", "ObjectRetention:", "ObjectLegalHold:")
"""Changes of what a version carries; they are replicated too."""
REPLICATING = "ReplicateObject"
"""The operation in whose name replicas are written: replication does not listen to itself."""
REPLICATION = "s3/replication"
EXPIRATION = "LifecycleExpiration"
"""The operation in whose name lifecycle rules delete."""


class Happened(NamedTuple):
    """Something that befell a version of a key. `kind` is one of the three above, or an event name (`ObjectTagging:Put`)."""

    kind: str
    key: str
    value: dict[str, Any]
    """The version's row; read when the plan is carried out, so later steps may still complete it."""


def happened(bucket: Bucket, facts: list[Happened], kind: str, key: str, value: dict[str, Any]) -> None:
    """Note it, and mark a new version that is to be replicated. For buckets with listeners."""
    facts.append(Happened(kind, key, value))
    if kind in (CREATED, MARKED):
        mark_pending(bucket.value.get("Replication"), bucket.account, key, value, is_marker=kind == MARKED)
    elif kind.startswith(METADATA) and value.get("repl") in (COMPLETED, FAILED):
        value["repl"] = PENDING


def recordings(ctx: Context, bucket: Bucket, facts: Sequence[Happened]) -> list[Change]:
    """What the transaction must contain so that every listener hears of it."""
    events = ctx.cloud.events
    changes: list[Change] = []
    for happening in facts:
        told = fact_of(ctx, bucket, happening)
        for listener in bucket.listeners:
            if listener == TOLD:
                changes += filter(None, (bridge.telling(ctx, bucket, told, happening.value),))
            elif listener != REPLICATION or ctx.operation != REPLICATING:
                changes.append(events.recording(listener, bucket.name, turn_of(listener, happening), told))
    return changes


def turn_of(listener: str, happening: Happened) -> str:
    """What keeps its order: a key; for replication each version by itself, as every version finds its place by its id."""
    if listener != REPLICATION:
        return happening.key
    return f"{happening.key}\0{happening.value.get('ver', 'null')}"


def wake(ctx: Context, bucket: Bucket) -> None:
    """The transaction is committed: the listeners need not wait for a look round."""
    for listener in bucket.listeners:
        if listener == TOLD:
            bridge.wake_bus(ctx, bucket)
        else:
            ctx.cloud.events.wake(listener, bucket.name)


def fact_of(ctx: Context, bucket: Bucket, happening: Happened) -> dict[str, Any]:
    """Everything an event record is made of, so that nobody has to look the object up, which may be gone."""
    value = happening.value
    now = ctx.clock.time_s()
    fact: dict[str, Any] = {
        "eventName": name_of(ctx, happening.kind),
        "eventTime": now,
        "requester": requester_of(ctx),
        "account": ctx.account,
        "sourceIPAddress": ctx.source_ip,
        "requestId": ctx.request_id,
        "bucket": bucket.name,
        "owner": bucket.account,
        "region": bucket.region,
        "key": happening.key,
        "sequencer": f"{value.get('seq') or int(now * 1_000_000):018X}",
    }
    if "size" in value:
        fact["size"] = value["size"]
    if "etag" in value:
        fact["eTag"] = value["etag"]
    if bucket.versioning:
        fact["versionId"] = str(value.get("ver", "null"))
    if ctx.trace:
        fact["trace"] = ctx.trace
    return fact | event_data(happening.kind, value)


def name_of(ctx: Context, kind: str) -> str:
    """AWS's name, without `s3:`."""
    if kind == CREATED:
        return "ObjectCreated:" + (CREATED_BY.get(ctx.operation) or ("Post" if is_form(ctx) else "Put"))
    removal = EXPIRATION if ctx.operation == EXPIRATION else "ObjectRemoved"
    if kind == MARKED:
        return f"{removal}:DeleteMarkerCreated"
    if kind == REMOVED:
        return f"{removal}:Delete"
    return kind


def is_form(ctx: Context) -> bool:
    """Browser forms are uploaded by S3 itself, as the one who signed them."""
    return ctx.operation == "PutObject" and ctx.via == "s3"


def requester_of(ctx: Context) -> str:
    """`principalId` of an event record."""
    principal = ctx.principal
    if principal.kind == "service":
        return principal.name
    return f"AWS:{principal.user_id}"
