"""One permission on a bucket or its objects: who is asked, under which policy, list, access point and VPC.

    request --access.py: which actions--> permission --pilvi.auth.policy.decide--> allowed or why not

The policy of the bucket speaks for what its owner owns. Objects of other accounts (only where lists count) are ruled by their owners;
the bucket's policy may still deny. Through an access point both policies must allow.

Source: S3 User Guide, "How Amazon S3 authorizes a request"; "Blocking public access"; "Configuring IAM policies for using access
points".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.auth.principals import NOBODY
from pilvi.core.errors import ServiceError
from pilvi.core.service import Access, Context
from pilvi.services.s3.acl import BUCKET_GRANTS, OBJECT_GRANTS, closeness
from pilvi.services.s3.catalog import VPC_ENDPOINTS, Bucket, Point, denials_of
from pilvi.services.s3.errors import access_denied, invalid_request


def permission(
    ctx: Context,
    bucket: Bucket,
    action: str,
    resource: str,
    context: Mapping[str, Any] | None = None,
    value: Mapping[str, Any] | None = None,
) -> Access:
    """One action on a bucket or its objects, under the bucket's policy. value: the row of the object it is about, if there is one."""
    if bucket.has_acls or bucket.point is not None or ctx.vpce:
        return particular(ctx, bucket, action, resource, context or {}, value)
    if context is None:
        return Access(action, resource, policy_for(ctx, bucket), bucket.account)
    return Access(action, resource, policy_for(ctx, bucket), bucket.account, context)


def particular(
    ctx: Context,
    bucket: Bucket,
    action: str,
    resource: str,
    context: Mapping[str, Any],
    value: Mapping[str, Any] | None,
) -> Access:
    """The same where access control lists count, or an access point or a VPC endpoint lies between.

    What other accounts own in a bucket, its policy can deny but not allow; their lists and their own policies decide.
    """
    policy, account = policy_for(ctx, bucket), bucket.account
    if value is not None and action in OBJECT_GRANTS and "owner" in value and bucket.has_acls:
        policy, account = bucket.denies, value["owner"]
    gate: Access | None = None
    if ctx.vpce:
        context = {**context, "aws:SourceVpc": vpc_of(ctx)}
        gate = gate_of(ctx, action, resource, account, context)
    point = bucket.point
    if point is None:
        return Access(action, resource, policy, account, context, acl=acl_grant(ctx, bucket, action, value), also=gate)
    origin = "VPC" if point.vpc else "Internet"
    context = {
        **context,
        "s3:DataAccessPointArn": point.arn,
        "s3:DataAccessPointAccount": point.account,
        "s3:AccessPointNetworkOrigin": origin,
    }
    behind = Access(action, resource, policy, account, context, acl=acl_grant(ctx, bucket, action, value), also=gate)
    on_point = point.arn if resource == bucket.arn else f"{point.arn}/object/{resource[len(bucket.arn) + 1 :]}"
    return Access(action, on_point, point_policy(ctx, bucket, point), point.account, context, also=behind)


def acl_grant(ctx: Context, bucket: Bucket, action: str, value: Mapping[str, Any] | None) -> int:
    """How closely the list of the bucket, or of the object, lets the caller in."""
    if not bucket.has_acls:
        return NOBODY
    caller, ignores, of_bucket = ctx.principal, bucket.block.ignore_acls, bucket.value.get("Acl")
    wanted = OBJECT_GRANTS.get(action)
    if wanted is not None:
        if value is None:  # who may list a bucket may learn that a key is not there, and who may write gives new objects a list
            wanted = NEW_OBJECT.get(wanted)
            return closeness(caller, of_bucket, wanted, ignores_public=ignores) if wanted is not None else NOBODY
        return closeness(caller, value.get("acl"), wanted, ignores_public=ignores)
    wanted = BUCKET_GRANTS.get(action)
    if wanted is None:
        is_own = value is not None and "owner" in value and value["owner"] == caller.account
        wanted = "WRITE" if is_own and action in DELETIONS else None
    return closeness(caller, of_bucket, wanted, ignores_public=ignores) if wanted is not None else NOBODY


NEW_OBJECT = {"READ": "READ", "WRITE_ACP": "WRITE"}
DELETIONS = ("s3:DeleteObject", "s3:DeleteObjectVersion")
"""Allowed by WRITE on the bucket to whoever owns the object."""


def policy_for(ctx: Context, bucket: Bucket) -> Mapping[str, Any] | None:
    """The bucket's policy as far as it binds this caller: a restricted public one lets in its own account and AWS services only."""
    if bucket.is_public and bucket.block.restrict and ctx.principal.account != bucket.account and ctx.principal.kind != "service":
        return bucket.denies
    return bucket.policy


def point_policy(ctx: Context, bucket: Bucket, point: Point) -> Mapping[str, Any] | None:
    """The access point's policy, restricted in the same way."""
    if point.is_public and bucket.block.restrict and ctx.principal.account != point.account and ctx.principal.kind != "service":
        return denials_of(point.policy)
    return point.policy


POINT_OPERATIONS = frozenset(
    [
        "AbortMultipartUpload",
        "CompleteMultipartUpload",
        "CopyObject",
        "CreateMultipartUpload",
        "DeleteObject",
        "DeleteObjects",
        "DeleteObjectTagging",
        "GetBucketAcl",
        "GetBucketCors",
        "GetBucketLocation",
        "GetBucketNotificationConfiguration",
        "GetBucketPolicy",
        "GetObject",
        "GetObjectAcl",
        "GetObjectAttributes",
        "GetObjectLegalHold",
        "GetObjectRetention",
        "GetObjectTagging",
        "HeadBucket",
        "HeadObject",
        "ListMultipartUploads",
        "ListObjects",
        "ListObjectsV2",
        "ListObjectVersions",
        "ListParts",
        "PutObject",
        "PutObjectAcl",
        "PutObjectLegalHold",
        "PutObjectRetention",
        "PutObjectTagging",
        "RestoreObject",
        "SelectObjectContent",
        "UploadPart",
        "UploadPartCopy",
    ]
)
"""Source: S3 User Guide, "Access point compatibility with S3 operations"."""


def check_point(ctx: Context, point: Point, operation: str) -> None:
    """Errors: MethodNotAllowed - not through an access point; AccessDenied - from outside the point's VPC."""
    if operation not in POINT_OPERATIONS:
        raise ServiceError("MethodNotAllowed", "The specified method is not allowed against this resource.", 405)
    if point.vpc and (not ctx.vpce or vpc_of(ctx) != point.vpc):
        raise access_denied()


def vpc_of(ctx: Context) -> str:
    """The VPC of the endpoint a request came through."""
    return str(endpoint_of(ctx)["VpcId"])


def endpoint_of(ctx: Context) -> Mapping[str, Any]:
    """The endpoint a request came through. AccessDenied when there is no such endpoint: its name leads nowhere."""
    row = ctx.store.get(VPC_ENDPOINTS, ctx.vpce)
    if row is None:
        raise access_denied()
    return row.value


def gate_of(ctx: Context, action: str, resource: str, account: str, context: Mapping[str, Any]) -> Access | None:
    """What the endpoint's policy must allow; none where it lets everything through."""
    policy = endpoint_of(ctx).get("_policy")
    return None if policy is None else Access(action, resource, policy, account, context, is_gate=True)


OLD_REGIONS = frozenset(
    [
        "us-east-1",
        "us-west-1",
        "us-west-2",
        "eu-west-1",
        "ap-southeast-1",
        "ap-southeast-2",
        "ap-northeast-1",
        "sa-east-1",
        "us-gov-west-1",
    ]
)
"""Regions that still know Signature Version 2. Source: S3 API Reference, "Authenticating requests (AWS Signature Version 2)"."""


def check_old_signature(bucket: Bucket, name: str) -> None:
    """Errors: InvalidRequest - the bucket's Region takes Version 4 only, and so do the hosts of access points: Version 2 signs no host.

    name: as it was asked for. A point's alias stands in what was signed, its ARN does not.
    """
    if bucket.region not in OLD_REGIONS or name.startswith("arn:"):
        raise invalid_request("The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.")
