"""Server access logs: where a bucket's requests are written down. A line: access_log_line.py; delivery: access_log_delivery.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import ServiceError
from pilvi.core.principal import Principal
from pilvi.core.service import Context, Operations
from pilvi.services.s3.acl import LOG_SERVICE, closeness
from pilvi.services.s3.bucket import change_bucket
from pilvi.services.s3.catalog import Bucket, find_bucket, get_bucket
from pilvi.services.s3.errors import invalid_argument, malformed_xml
from pilvi.services.s3.permission import permission

ops = Operations()

MEMBER = "Logging"


@ops
def put_bucket_logging(ctx: Context, req: Mapping[str, Any]) -> None:
    """Have every request to a bucket written down in objects of another one; an empty status ends it.

    req: Bucket, BucketLoggingStatus {LoggingEnabled {TargetBucket, TargetPrefix, TargetObjectKeyFormat {SimplePrefix |
    PartitionedPrefix {PartitionDateSource}}}}. The target must let logging.s3.amazonaws.com put objects, by its policy or (where
    lists count) as the group LogDelivery; where lists are off that shows only when logs are delivered.
    Errors: InvalidTargetBucketForLogging - the target is not there, somebody else's, or its list does not let logs in;
    CrossLocationLoggingProhibited - in another Region; MalformedXML; InvalidArgument - grants where lists are off; NotImplemented -
    TargetGrants.
    Source: S3 API Reference, PutBucketLogging; S3 User Guide, "Enabling Amazon S3 server access logging".
    Differs: lines come every five minutes. The cipher suite and aclRequired are always `-`; signatures and session tokens of presigned
    URLs are replaced by REDACTED; the turn-around time of uploads holds their transfer.
    """
    bucket = get_bucket(ctx, req["Bucket"])
    wanted = req["BucketLoggingStatus"].get("LoggingEnabled")
    if wanted is None:
        change_bucket(ctx, bucket.name, **{MEMBER: None})
        return
    check_format(wanted.get("TargetObjectKeyFormat"))
    check_target(ctx, bucket, wanted)
    change_bucket(ctx, bucket.name, **{MEMBER: dict(wanted)})


@ops
def get_bucket_logging(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where the logs go; nothing while there are none.

    Source: S3 API Reference, GetBucketLogging.
    """
    found = get_bucket(ctx, req["Bucket"]).value.get(MEMBER)
    return {"LoggingEnabled": found} if found is not None else {}


def check_format(chosen: Mapping[str, Any] | None) -> None:
    """One of the two forms. Errors: MalformedXML."""
    if chosen is None:
        return
    if len(chosen) != 1 or ("PartitionedPrefix" in chosen and "PartitionDateSource" not in chosen["PartitionedPrefix"]):
        raise malformed_xml()


def check_target(ctx: Context, bucket: Bucket, wanted: Mapping[str, Any]) -> None:
    target = find_bucket(ctx, wanted["TargetBucket"])
    if target is None or target.zone:
        raise no_target("The target bucket for logging does not exist", wanted)
    if target.account != bucket.account:
        raise no_target("The owner for the bucket to be logged and the target bucket must be the same.", wanted)
    if target.region != bucket.region:
        raise ServiceError(
            "CrossLocationLoggingProhibited",
            "Cross-location logging not allowed. A bucket in one location cannot log to a bucket in another location.",
            403,
            TargetBucket=target.name,
        )
    if wanted.get("TargetGrants"):
        if not target.has_acls:
            raise invalid_argument("TargetGrants is not allowed where the bucket owner is enforced", "TargetGrants", "")
        raise ServiceError("NotImplemented", "TargetGrants is not built into this cloud yet; use a bucket policy.", 501)
    if target.has_acls and not may_deliver(ctx, target, wanted.get("TargetPrefix", "")):
        raise no_target("You must give the log-delivery group WRITE and READ_ACP permissions to the target bucket", wanted)


def may_deliver(ctx: Context, target: Bucket, prefix: str) -> bool:
    """Whether the bucket's list or its policy lets logs in."""
    service = Principal("service", target.account, "", LOG_SERVICE, LOG_SERVICE)
    grants = target.value.get("Acl")
    if all(closeness(service, grants, needed, ignores_public=False) for needed in ("WRITE", "READ_ACP")):
        return True
    as_service = ctx.as_service(LOG_SERVICE)
    return as_service.allows(permission(as_service, target, "s3:PutObject", target.object_arn(f"{prefix}x")))


def no_target(message: str, wanted: Mapping[str, Any]) -> ServiceError:
    return ServiceError("InvalidTargetBucketForLogging", message, 400, TargetBucket=wanted["TargetBucket"])
