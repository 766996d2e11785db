"""One request as one line of a server access log.

Source: S3 User Guide, "Amazon S3 server access log format": fields, their order, `-` for what is not known, operations.
Differs: the cipher suite is not told; aclRequired is always `-`; the turn-around time of uploads holds their transfer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

from pilvi.auth.principals import canonical_id
from pilvi.core.principal import Principal

if TYPE_CHECKING:
    from pilvi.services.s3.witness import Sight

NOTHING = "-"

RESOURCES = {
    "ListObjects": "BUCKET",
    "ListObjectsV2": "BUCKET",
    "HeadBucket": "BUCKET",
    "CreateBucket": "BUCKET",
    "DeleteBucket": "BUCKET",
    "ListObjectVersions": "BUCKETVERSIONS",
    "ListMultipartUploads": "UPLOADS",
    "CreateMultipartUpload": "UPLOADS",
    "UploadPart": "PART",
    "UploadPartCopy": "PART",
    "CompleteMultipartUpload": "UPLOAD",
    "AbortMultipartUpload": "UPLOAD",
    "ListParts": "UPLOAD",
    "DeleteObjects": "MULTI_OBJECT_DELETE",
    "SelectObjectContent": "SELECT",
    "RestoreObject": "OBJECT_RESTORE",
    "GetObjectAttributes": "OBJECT_ATTRIBUTES",
    "preflight": "PREFLIGHT",
}
"""Where the name of the operation does not lead to it."""

BY_SUBRESOURCE = {
    "accelerate": "ACCELERATE",
    "acl": "ACL",
    "analytics": "ANALYTICS",
    "cors": "CORS",
    "encryption": "ENCRYPTION",
    "intelligent-tiering": "INTELLIGENT_TIERING",
    "inventory": "INVENTORY",
    "legal-hold": "LEGAL_HOLD",
    "lifecycle": "LIFECYCLE",
    "location": "LOCATION",
    "logging": "LOGGING_STATUS",
    "metrics": "METRICS",
    "notification": "NOTIFICATION",
    "object-lock": "OBJECT_LOCK_CONFIGURATION",
    "ownershipControls": "OWNERSHIP_CONTROLS",
    "policy": "BUCKETPOLICY",
    "policyStatus": "BUCKETPOLICY_STATUS",
    "publicAccessBlock": "PUBLIC_ACCESS_BLOCK",
    "replication": "REPLICATION",
    "requestPayment": "REQUEST_PAYMENT",
    "retention": "RETENTION",
    "torrent": "OBJECT_TORRENT",
    "versioning": "VERSIONING",
    "website": "WEBSITE",
}
SECRETS = re.compile(r"((?:^|&)(?:X-Amz-)?(?:Security-Token|Signature)=)[^&]*", re.IGNORECASE)
"""What a presigned URL says that whoever reads the log must not use."""
COPIES = {"CopyObject": "OBJECT", "UploadPartCopy": "PART"}
SIGNED = {"header": "AuthHeader", "v2-header": "AuthHeader", "query": "QueryString", "v2-query": "QueryString"}


def lines_of(sight: Sight) -> Iterator[str]:
    """The line of a request; requests that delete several objects have one more for each."""
    yield line_of(sight, operation_of(sight), sight.key, sight.query.get("versionId", ""))
    for key, version_id in sight.deleted:
        yield line_of(sight, "BATCH.DELETE.OBJECT", key, version_id)


def operation_of(sight: Sight) -> str:
    """`REST.GET.OBJECT`"""
    method, operation = sight.request.method, sight.operation
    if operation in COPIES:
        return f"REST.COPY.{COPIES[operation]}" + ("_GET" if sight.is_source else "")
    if operation == "website":
        return f"WEBSITE.{method}.OBJECT"
    return f"REST.{method}.{resource_of(sight)}"


def resource_of(sight: Sight) -> str:
    if (known := RESOURCES.get(sight.operation)) is not None:
        return known
    if "tagging" in sight.query:
        return "OBJECT_TAGGING" if sight.key else "TAGGING"
    for name in sight.query:
        if name in BY_SUBRESOURCE:
            return BY_SUBRESOURCE[name]
    return "OBJECT" if sight.key or sight.operation == "post-object" else "BUCKET"


def line_of(sight: Sight, operation: str, key: str, version_id: str) -> str:
    request, bucket = sight.request, sight.bucket
    headers = request.headers
    is_batch = operation.startswith("BATCH")
    method = request.method
    query = SECRETS.sub(r"\1REDACTED", request.query)
    target = request.raw_path + (f"?{query}" if query else "")
    fields = (
        canonical_id(bucket.account),
        bucket.name,
        f"[{datetime.fromtimestamp(sight.at_s, UTC):%d/%b/%Y:%H:%M:%S +0000}]",
        request.client or NOTHING,
        requester_of(sight.principal),
        sight.request_id,
        operation,
        quote(key, safe="/-_.~") or NOTHING,
        NOTHING if is_batch else quoted(f"{method} {target} HTTP/1.1"),
        "204" if is_batch else str(sight.status),
        NOTHING if is_batch else sight.error_code or NOTHING,
        str(sight.sent) if sight.sent and not is_batch else NOTHING,
        NOTHING if is_batch else size_of(sight),
        NOTHING if is_batch else str(int(sight.total_s * 1000)),
        NOTHING if is_batch else str(int(sight.turn_s * 1000)),
        quoted(headers.get("referer", "")),
        quoted(headers.get("user-agent", "")),
        version_id or NOTHING,
        sight.host_id or NOTHING,
        NOTHING if not sight.claim_kind else "SigV2" if sight.claim_kind.startswith("v2") else "SigV4",
        NOTHING,
        SIGNED.get(sight.claim_kind, NOTHING),
        headers.get("host", "") or NOTHING,
        f"TLSv{request.tls}" if request.tls else NOTHING,
        bucket.point.arn if bucket.point is not None else NOTHING,
        NOTHING,
    )
    return " ".join(fields)


def quoted(text: str) -> str:
    """A field in quotes; quotes inside it are encoded, so that a client cannot write fields of its own."""
    return '"' + text.replace('"', "%22") + '"' if text else '"-"'


def requester_of(principal: Principal) -> str:
    """Canonical id of a root, ARN of whoever else, `-` for nobody."""
    match principal.kind:
        case "anonymous":
            return NOTHING
        case "service":
            return f"svc:{principal.name}"
        case "root":
            return canonical_id(principal.account)
    return principal.arn or NOTHING


def size_of(sight: Sight) -> str:
    """Bytes of the object that the request was about."""
    if not sight.key:
        return NOTHING
    if sight.value is not None and "size" in sight.value:
        return str(sight.value["size"])
    if sight.operation in ("PutObject", "UploadPart"):
        headers = sight.request.headers
        return headers.get("x-amz-decoded-content-length") or headers.get("content-length") or NOTHING
    return NOTHING
