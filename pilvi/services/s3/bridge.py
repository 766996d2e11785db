"""What happens to objects, as EventBridge tells it: for buckets that say EventBridgeConfiguration, on their account's default bus.

Source: S3 User Guide, "Using EventBridge", "EventBridge event message structure", "EventBridge mapping and troubleshooting".
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pilvi.core.service import Context
from pilvi.events.told import told, wake
from pilvi.services.s3.catalog import Bucket
from pilvi.services.s3.classes import class_of
from pilvi.storage.records import Change

SETTING: Final = "EventBridge"
"""In a bucket's row: its events go there."""
SOURCE: Final = "aws.s3"

_TYPES: Final[Mapping[str, str]] = {
    "ObjectCreated": "Object Created",
    "ObjectRemoved": "Object Deleted",
    "LifecycleExpiration": "Object Deleted",
    "ObjectRestore:Post": "Object Restore Initiated",
    "ObjectRestore:Completed": "Object Restore Completed",
    "ObjectRestore:Delete": "Object Restore Expired",
    "ObjectTagging:Put": "Object Tags Added",
    "ObjectTagging:Delete": "Object Tags Deleted",
    "ObjectAcl:Put": "Object ACL Updated",
    "LifecycleTransition": "Object Storage Class Changed",
    "IntelligentTiering": "Object Access Tier Changed",
}
"""By event name, or the part before its colon. Replication is not told of there."""
_REASONS: Final[Mapping[str, str]] = {
    "ObjectCreated:Put": "PutObject",
    "ObjectCreated:Post": "POST Object",
    "ObjectCreated:Copy": "CopyObject",
    "ObjectCreated:CompleteMultipartUpload": "CompleteMultipartUpload",
    "ObjectRemoved": "DeleteObject",
    "LifecycleExpiration": "Lifecycle Expiration",
}


def telling(ctx: Context, bucket: Bucket, fact: Mapping[str, Any], row: Mapping[str, Any]) -> Change | None:
    """The change that tells of a fact; None for what EventBridge does not hear of. row: the version's."""
    name = fact["eventName"]
    kind = name.partition(":")[0]
    detail_type = _TYPES.get(name) or _TYPES.get(kind)
    if detail_type is None:
        return None
    at = datetime.fromtimestamp(fact["eventTime"], UTC)
    detail = {**detail_of(ctx, fact), **more_of(name, kind, fact, row)}
    return told(ctx, bucket.account, bucket.region, SOURCE, detail_type, [bucket.arn], detail, at, f"{bucket.arn}/{fact['key']}")


def wake_bus(ctx: Context, bucket: Bucket) -> None:
    wake(ctx, bucket.account, bucket.region)


def detail_of(ctx: Context, fact: Mapping[str, Any]) -> dict[str, Any]:
    """What every event tells."""
    members = {"key": "key", "size": "size", "eTag": "etag", "versionId": "version-id", "sequencer": "sequencer"}
    return {
        "version": "0",
        "bucket": {"name": fact["bucket"]},
        "object": {outer: fact[inner] for inner, outer in members.items() if inner in fact},
        "request-id": fact["requestId"],
        "requester": ctx.principal.name if ctx.principal.kind == "service" else fact["account"],
        "source-ip-address": fact["sourceIPAddress"],
    }


def more_of(name: str, kind: str, fact: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """What only some tell."""
    found: dict[str, Any] = {}
    if reason := _REASONS.get(name) or _REASONS.get(kind):
        found["reason"] = reason
    if kind in ("ObjectRemoved", "LifecycleExpiration"):
        is_marker = name.endswith("DeleteMarkerCreated")
        found["deletion-type"] = "Delete Marker Created" if is_marker else "Permanently Deleted"
    if kind == "ObjectRestore":
        found["source-storage-class"] = class_of(row)
    restored = (fact.get("glacierEventData") or {}).get("restoreEventData") or {}
    if name == "ObjectRestore:Completed" and "lifecycleRestorationExpiryTime" in restored:
        found["restore-expiry-time"] = restored["lifecycleRestorationExpiryTime"].replace(".000Z", "Z")
    if "lifecycleEventData" in fact:
        found["destination-storage-class"] = fact["lifecycleEventData"]["transitionEventData"]["destinationStorageClass"]
    if "intelligentTieringEventData" in fact:
        found["destination-access-tier"] = fact["intelligentTieringEventData"]["destinationAccessTier"]
    return found
