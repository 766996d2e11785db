"""Which permissions each operation needs: IAM actions, resources, and what the bucket's policy says about them.

Runs on the event loop for every request: one cached bucket look-up, and for reads the look-up of the object, which the handler
then finds in the request (`_found`), so that conditions on the object's tags cost nothing more.

Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon S3"; S3 API Reference, each
operation's "Permissions".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl

from pilvi.auth.principals import ACCOUNT
from pilvi.core.arn import partition_of
from pilvi.core.errors import ServiceError
from pilvi.core.service import Access, Context
from pilvi.services.s3.catalog import Bucket, Lens, get_bucket
from pilvi.services.s3.copy_source import CopySource, copy_source_of
from pilvi.services.s3.directory_rules import (
    READING,
    REGIONAL,
    SIGNED_BY_OWN_KEYS,
    STORING,
    SUFFIX,
    arn_of,
    check_supported,
)
from pilvi.services.s3.entry import ACCELERATED, REQUESTER_PAYS, check_entry
from pilvi.services.s3.errors import access_denied, invalid_request
from pilvi.services.s3.handover import find_waiting
from pilvi.services.s3.history import Found, find_object
from pilvi.services.s3.lock_rules import condition_keys
from pilvi.services.s3.permission import check_old_signature, check_point, gate_of, permission
from pilvi.services.s3.sealing import CONDITIONS

Rule = Callable[[Context, Bucket, Mapping[str, Any]], Sequence[Access]]

BUCKET_ACTIONS = {
    "HeadBucket": "s3:ListBucket",
    "DeleteBucket": "s3:DeleteBucket",
    "GetBucketLocation": "s3:GetBucketLocation",
    "GetBucketTagging": "s3:GetBucketTagging",
    "PutBucketTagging": "s3:PutBucketTagging",
    "GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
    "PutBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
    "DeleteBucketLifecycle": "s3:PutLifecycleConfiguration",
    "GetBucketIntelligentTieringConfiguration": "s3:GetIntelligentTieringConfiguration",
    "ListBucketIntelligentTieringConfigurations": "s3:GetIntelligentTieringConfiguration",
    "PutBucketIntelligentTieringConfiguration": "s3:PutIntelligentTieringConfiguration",
    "DeleteBucketIntelligentTieringConfiguration": "s3:PutIntelligentTieringConfiguration",
    "DeleteBucketTagging": "s3:PutBucketTagging",
    "GetBucketVersioning": "s3:GetBucketVersioning",
    "PutBucketVersioning": "s3:PutBucketVersioning",
    "GetBucketPolicy": "s3:GetBucketPolicy",
    "PutBucketPolicy": "s3:PutBucketPolicy",
    "DeleteBucketPolicy": "s3:DeleteBucketPolicy",
    "GetBucketPolicyStatus": "s3:GetBucketPolicyStatus",
    "GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock",
    "PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock",
    "DeletePublicAccessBlock": "s3:PutBucketPublicAccessBlock",
    "GetBucketEncryption": "s3:GetEncryptionConfiguration",
    "PutBucketEncryption": "s3:PutEncryptionConfiguration",
    "DeleteBucketEncryption": "s3:PutEncryptionConfiguration",
    "GetBucketOwnershipControls": "s3:GetBucketOwnershipControls",
    "PutBucketOwnershipControls": "s3:PutBucketOwnershipControls",
    "DeleteBucketOwnershipControls": "s3:PutBucketOwnershipControls",
    "GetBucketCors": "s3:GetBucketCORS",
    "PutBucketCors": "s3:PutBucketCORS",
    "DeleteBucketCors": "s3:PutBucketCORS",
    "GetBucketAccelerateConfiguration": "s3:GetAccelerateConfiguration",
    "PutBucketAccelerateConfiguration": "s3:PutAccelerateConfiguration",
    "GetObjectLockConfiguration": "s3:GetBucketObjectLockConfiguration",
    "PutObjectLockConfiguration": "s3:PutBucketObjectLockConfiguration",
    "GetBucketNotificationConfiguration": "s3:GetBucketNotification",
    "PutBucketNotificationConfiguration": "s3:PutBucketNotification",
    "GetBucketReplication": "s3:GetReplicationConfiguration",
    "PutBucketReplication": "s3:PutReplicationConfiguration",
    "DeleteBucketReplication": "s3:PutReplicationConfiguration",
    "GetBucketMetricsConfiguration": "s3:GetMetricsConfiguration",
    "ListBucketMetricsConfigurations": "s3:GetMetricsConfiguration",
    "PutBucketMetricsConfiguration": "s3:PutMetricsConfiguration",
    "DeleteBucketMetricsConfiguration": "s3:PutMetricsConfiguration",
    "GetBucketAnalyticsConfiguration": "s3:GetAnalyticsConfiguration",
    "ListBucketAnalyticsConfigurations": "s3:GetAnalyticsConfiguration",
    "PutBucketAnalyticsConfiguration": "s3:PutAnalyticsConfiguration",
    "DeleteBucketAnalyticsConfiguration": "s3:PutAnalyticsConfiguration",
    "GetBucketInventoryConfiguration": "s3:GetInventoryConfiguration",
    "ListBucketInventoryConfigurations": "s3:GetInventoryConfiguration",
    "PutBucketInventoryConfiguration": "s3:PutInventoryConfiguration",
    "DeleteBucketInventoryConfiguration": "s3:PutInventoryConfiguration",
    "GetBucketAcl": "s3:GetBucketAcl",
    "PutBucketAcl": "s3:PutBucketAcl",
}

OBJECT_ACTIONS = {
    "DeleteObject": "s3:DeleteObject",
    "GetObjectTagging": "s3:GetObjectTagging",
    "PutObjectTagging": "s3:PutObjectTagging",
    "DeleteObjectTagging": "s3:DeleteObjectTagging",
    "GetObjectAcl": "s3:GetObjectAcl",
    "GetObjectTorrent": "s3:GetObjectTorrent",
    "PutObjectAcl": "s3:PutObjectAcl",
}
"""With a version id the action is the one on versions: s3:GetObjectVersionTagging."""


OBJECT_LAMBDA = "s3-object-lambda.amazonaws.com"
LENS = "_lens"
"""The member of a request that a function answers: its Object Lambda access point."""
AS_SENT = "_request"
"""The member of requests to Object Lambda access points that holds what the client sent (pilvi.protocol.quirks)."""
LENS_S = 120
"""How long the credentials live with which Object Lambda goes on for its caller."""
LENS_ACTIONS = {
    "GetObject": "s3-object-lambda:GetObject",
    "HeadObject": "s3-object-lambda:GetObject",
    "ListObjects": "s3-object-lambda:ListBucket",
    "ListObjectsV2": "s3-object-lambda:ListBucket",
}
"""Operations that functions may rewrite."""
LENS_OPERATIONS = frozenset(
    [
        *LENS_ACTIONS,
        "AbortMultipartUpload",
        "CompleteMultipartUpload",
        "CreateMultipartUpload",
        "DeleteObject",
        "DeleteObjectTagging",
        "DeleteObjects",
        "GetObjectAcl",
        "GetObjectLegalHold",
        "GetObjectRetention",
        "GetObjectTagging",
        "ListMultipartUploads",
        "ListObjectVersions",
        "ListParts",
        "PutObject",
        "PutObjectAcl",
        "PutObjectLegalHold",
        "PutObjectRetention",
        "PutObjectTagging",
        "RestoreObject",
        "UploadPart",
    ]
)
"""Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon S3 Object Lambda"."""
WITHOUT_BUCKET = frozenset({"CreateBucket", "CreateSession"})
"""Operations that name a bucket which need not be there."""
EXPRESS = "s3express"
"""What requests to directory buckets are signed for."""
LOCK_OPERATIONS = frozenset({"PutObjectRetention", "GetObjectRetention", "PutObjectLegalHold", "GetObjectLegalHold"})


def access(ctx: Context, operation: str, req: Mapping[str, Any]) -> Sequence[Access]:
    """What must be allowed before an operation runs. DeleteObjects asks for each of its keys itself.

    Errors: NoSuchBucket; AccessDenied - another account owns the bucket than the caller expects; AuthorizationHeaderMalformed -
    the bucket lies in another Region than the request is signed for.
    """
    name = req.get("Bucket")
    if name is None or operation in WITHOUT_BUCKET:
        needed = account_access(ctx, operation, req)
        return through_gate(ctx, needed) if ctx.vpce else needed
    bucket = get_bucket(ctx, name)
    claim = ctx.claim
    if claim is not None and claim.kind[0] == "v":
        check_old_signature(bucket, name)
    elif bucket.region != ctx.region and ctx.principal.kind != "anonymous" and operation != "GetBucketLocation":
        raise wrong_region(ctx, bucket)
    if claim is not None and claim.service == EXPRESS and not bucket.zone:
        raise access_denied()
    if bucket.point is not None:
        if bucket.lens is not None:
            return lens_access(ctx, bucket.lens, operation, req)
        check_point(ctx, bucket.point, operation)
    expected = req.get("ExpectedBucketOwner")
    if expected is not None and expected != bucket.account:
        raise access_denied()
    if REQUESTER_PAYS in bucket.value or ACCELERATED in req:
        check_entry(ctx, operation, bucket, req)
    if bucket.zone:
        return directory_access(ctx, bucket, operation, req)
    if operation == "DeleteObjects":
        return ()
    rule = RULES.get(operation)
    if rule is not None:
        return rule(ctx, bucket, req)
    if (action := OBJECT_ACTIONS.get(operation)) is not None:
        return object_access(ctx, bucket, req, action)
    if operation in LOCK_OPERATIONS:
        return lock_access(ctx, bucket, req, f"s3:{operation}")
    action = BUCKET_ACTIONS.get(operation, f"s3:{operation}")
    if operation == "PutBucketAcl":
        keys = {key: req[member] for member, key in WRITE_KEYS.items() if member in req}
        return (permission(ctx, bucket, action, bucket.arn, keys),)
    return (permission(ctx, bucket, action, bucket.arn),)


def directory_access(ctx: Context, bucket: Bucket, operation: str, req: Mapping[str, Any]) -> Sequence[Access]:
    """A directory bucket: Regional operations by their actions, Zonal ones by a session, which was permitted when it was made.

    Errors: MethodNotAllowed, NotImplemented, InvalidStorageClass - what directory buckets have not.
    """
    check_supported(operation, req)
    session = ctx.identity.session if ctx.identity is not None else {}
    if session.get("bucket", bucket.arn) != bucket.arn:
        raise access_denied()
    if operation in REGIONAL:
        if session.get("mode") == "ReadOnly" and not operation.startswith("Get"):
            raise access_denied()
        return (permission(ctx, bucket, REGIONAL[operation], bucket.arn),)
    if operation in STORING and isinstance(req, dict):
        req.pop("StorageClass", None)  # there is but one
    mode = "ReadOnly" if operation in READING else "ReadWrite"
    permitted = session.get("mode", "Regional")
    if permitted != "Regional":
        if (permitted == "ReadOnly" and mode == "ReadWrite") or operation in SIGNED_BY_OWN_KEYS:
            raise access_denied()
        return ()
    needed = [entry(ctx, bucket, mode)]
    if operation in ("CopyObject", "UploadPartCopy"):
        needed += source_access(ctx, copy_source_of(req), req)
    return needed


def lens_access(ctx: Context, lens: Lens, operation: str, req: Mapping[str, Any]) -> Sequence[Access]:
    """Through an Object Lambda access point: s3-object-lambda actions on that, then the access point behind it with aws:CalledVia.

    What a function rewrites needs the first only: whether the caller may run the function is asked when it is run, and whether they
    may read what it reads, when it reads with the URL that speaks for them.

    Errors: MethodNotAllowed - not through an Object Lambda access point; AccessDenied - nobody signed.
    """
    if operation not in LENS_OPERATIONS:
        raise ServiceError("MethodNotAllowed", "The specified method is not allowed against this resource.", 405)
    if ctx.principal.kind == "anonymous" or not isinstance(req, dict):
        raise access_denied()
    if operation in lens.functions:
        version_id = req.get("VersionId")
        req[LENS] = lens
        if version_id is None:
            return (Access(LENS_ACTIONS[operation], lens.arn, lens.policy, lens.account),)
        context = {"s3-object-lambda:versionid": version_id}
        return (Access(f"{LENS_ACTIONS[operation]}Version", lens.arn, lens.policy, lens.account, context),)
    req.pop(AS_SENT, None)
    req["Bucket"] = lens.supporting
    needed = access(ctx, operation, req)
    names = {behind.action.partition(":")[2]: None for behind in needed} or {"DeleteObject": None}
    for name in names:
        ctx.authorize(Access(f"s3-object-lambda:{name}", lens.arn, lens.policy, lens.account))
    ctx.identity = ctx.calling_for(OBJECT_LAMBDA, duration_s=LENS_S).identity
    return needed


def check_express(ctx: Context, operation: str, req: Mapping[str, Any]) -> None:
    """Keys of a session make the bucket they are for, and no other; they make no further session."""
    session = ctx.identity.session if ctx.identity is not None else {}
    if "bucket" not in session:
        return
    if operation != "CreateBucket" or session["bucket"] != arn_of(ctx.region, ctx.account, req["Bucket"]):
        raise access_denied()


def entry(ctx: Context, bucket: Bucket, mode: str) -> Access:
    """What lets into a directory bucket."""
    return permission(ctx, bucket, "s3express:CreateSession", bucket.arn, {"s3express:SessionMode": mode})


def denial_or(ctx: Context, bucket: Bucket, error: ServiceError) -> ServiceError:
    """Who may not list a bucket does not learn what is missing in it."""
    if error.code in ("NoSuchKey", "NoSuchVersion") and not ctx.allows(permission(ctx, bucket, "s3:ListBucket", bucket.arn)):
        return access_denied()
    return error


def wrong_region(ctx: Context, bucket: Bucket) -> ServiceError:
    return ServiceError(
        "AuthorizationHeaderMalformed",
        f"The authorization header is malformed; the region '{ctx.region}' is wrong; expecting '{bucket.region}'",
        400,
        Region=bucket.region,
        _headers={"x-amz-bucket-region": bucket.region},
    )


def through_gate(ctx: Context, needed: Sequence[Access]) -> Sequence[Access]:
    """The same, and what the VPC endpoint's policy must allow."""
    gates = [gate_of(ctx, access.action, access.resource, ctx.account, access.context) for access in needed]
    return (*needed, *(gate for gate in gates if gate is not None))


def writing_access(ctx: Context, req: Mapping[str, Any]) -> Sequence[Access]:
    """The answer to a request that waits at an Object Lambda access point. The writer's own policies decide, whoever owns that."""
    waiting = find_waiting(ctx, req["RequestToken"])
    return (Access("s3-object-lambda:WriteGetObjectResponse", waiting.lens.arn if waiting is not None else "*", None, ctx.account),)


def account_access(ctx: Context, operation: str, req: Mapping[str, Any]) -> Sequence[Access]:
    partition = partition_of(ctx.region)
    if ctx.claim is not None and ctx.claim.service == EXPRESS:
        check_express(ctx, operation, req)
    if operation == "WriteGetObjectResponse":
        return writing_access(ctx, req)
    if operation == "CreateSession":
        return ()  # the operation itself finds out which mode is allowed
    if operation == "ListDirectoryBuckets" or (operation == "CreateBucket" and req["Bucket"].endswith(SUFFIX)):
        return (Access(REGIONAL[operation], arn_of(ctx.region, ctx.account, req.get("Bucket", "*")), None, ctx.account),)
    if operation == "CreateBucket":
        configuration = req.get("CreateBucketConfiguration") or {}
        context = {"s3:LocationConstraint": configuration["LocationConstraint"]} if "LocationConstraint" in configuration else {}
        if "ObjectOwnership" in req:
            context["s3:x-amz-object-ownership"] = req["ObjectOwnership"]
        context |= {key: req[member] for member, key in WRITE_KEYS.items() if member in req}
        actions = ["s3:CreateBucket"]
        if req.get("ObjectLockEnabledForBucket"):
            actions += ["s3:PutBucketObjectLockConfiguration", "s3:PutBucketVersioning"]
        arn = f"arn:{partition}:s3:::{req['Bucket']}"
        return tuple(Access(action, arn, None, ctx.account, context) for action in actions)
    action = "s3:ListAllMyBuckets" if operation == "ListBuckets" else f"s3:{operation}"
    return (Access(action, f"arn:{partition}:s3:::*", None, ctx.account),)


# -- reading --------------------------------------------------------------------------------------------------------------


def read_access(ctx: Context, bucket: Bucket, req: Mapping[str, Any]) -> Sequence[Access]:
    action = "s3:GetObjectVersion" if "VersionId" in req else "s3:GetObject"
    context = context_of_object(ctx, bucket, req)
    return (permission(ctx, bucket, action, bucket.object_arn(req["Key"]), context, row_found(req)),)


def row_found(req: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The row of the object that context_of_object looked up."""
    found: Found | None = req.get("_found")
    return found.value if found is not None else None


def attributes_access(ctx: Context, bucket: Bucket, req: Mapping[str, Any]) -> Sequence[Access]:
    context = context_of_object(ctx, bucket, req)
    actions = ("s3:GetObject", "s3:GetObjectAttributes")
    if "VersionId" in req:
        actions = ("s3:GetObjectVersion", "s3:GetObjectVersionAttributes")
    value = row_found(req)
    return tuple(permission(ctx, bucket, action, bucket.object_arn(req["Key"]), context, value) for action in actions)


def context_of_object(ctx: Context, bucket: Bucket, req: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Look the object up once: for the conditions on its tags now, for the handler afterwards."""
    version_id = req.get("VersionId")
    try:
        found = find_object(ctx, bucket, req["Key"], version_id)
    except ServiceError:
        return None if version_id is None else {"s3:VersionId": version_id}
    if isinstance(req, dict):
        req["_found"] = found
    context = existing_tags(found.value.get("tags"))
    if version_id is not None:
        context["s3:VersionId"] = version_id
    return context or None


def existing_tags(tags: Mapping[str, str] | None) -> dict[str, Any]:
    return {f"s3:ExistingObjectTag/{key}": value for key, value in tags.items()} if tags else {}


def list_access(ctx: Context, bucket: Bucket, req: Mapping[str, Any]) -> Sequence[Access]:
    return (permission(ctx, bucket, "s3:ListBucket", bucket.arn, list_context(req)),)


def list_versions_access(ctx: Context, bucket: Bucket, req: Mapping[str, Any]) -> Sequence[Access]:
    return (permission(ctx, bucket, "s3:ListBucketVersions", bucket.arn, list_context(req)),)


def list_context(req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Condition keys of listings: a policy may let someone see one folder only."""
    context = {"s3:prefix": req.get("Prefix", "")}
    if "Delimiter" in req:
        context["s3:delimiter"] = req["Delimiter"]
    if "MaxKeys" in req:
        context["s3:max-keys"] = str(req["MaxKeys"])
    return context


# -- writing --------------------------------------------------------------------------------------------------------------

WRITE_KEYS = {
    "CopySource": "s3:x-amz-copy-source",
    "MetadataDirective": "s3:x-amz-metadata-directive",
    "WebsiteRedirectLocation": "s3:x-amz-website-redirect-location",
    "ACL": "s3:x-amz-acl",
    "GrantFullControl": "s3:x-amz-grant-full-control",
    "GrantRead": "s3:x-amz-grant-read",
    "GrantReadACP": "s3:x-amz-grant-read-acp",
    "GrantWrite": "s3:x-amz-grant-write",
    "GrantWriteACP": "s3:x-amz-grant-write-acp",
    **CONDITIONS,
    "StorageClass": "s3:x-amz-storage-class",
    "IfMatch": "s3:if-match",
    "IfNoneMatch": "s3:if-none-match",
    "ObjectLockMode": "s3:object-lock-mode",
    "ObjectLockLegalHoldStatus": "s3:object-lock-legal-hold",
}
"""Request members that policies may set conditions on."""

LOCK_ACTIONS = {"ObjectLockMode": "s3:PutObjectRetention", "ObjectLockLegalHoldStatus": "s3:PutObjectLegalHold"}
ACL_MEMBERS = ("ACL", "GrantFullControl", "GrantRead", "GrantReadACP", "GrantWriteACP")


def write_access(ctx: Context, bucket: Bucket, req: Mapping[str, Any]) -> Sequence[Access]:
    """s3:PutObject, and s3:PutObjectTagging or s3:PutObjectAcl for what comes with it."""
    context: dict[str, Any] | None = None
    for member, key in WRITE_KEYS.items():
        if member in req:
            context = {**(context or {}), key: req[member]}
    resource = bucket.object_arn(req["Key"])
    tagging = req.get("Tagging")
    sets_acl = context is not None and any(member in req for member in ACL_MEMBERS)
    locks = context is not None and any(member in req for member in LOCK_ACTIONS)
    if not tagging and not sets_acl and not locks:
        return (permission(ctx, bucket, "s3:PutObject", resource, context),)
    actions = ["s3:PutObject"]
    if tagging:
        actions.append("s3:PutObjectTagging")
        context = {**(context or {}), **requested_tags(dict(parse_qsl(tagging, keep_blank_values=True)))}
    if sets_acl and ctx.principal.kind != "service":  # reports and logs come with bucket-owner-full-control
        actions.append("s3:PutObjectAcl")
    if locks:
        actions += [action for member, action in LOCK_ACTIONS.items() if member in req]
        context = {**(context or {}), **condition_keys(req, ctx.clock.now())}
    return tuple(permission(ctx, bucket, action, resource, context) for action in actions)


def requested_tags(tags: Mapping[str, str]) -> dict[str, Any]:
    return {f"s3:RequestObjectTag/{key}": value for key, value in tags.items()} | {"s3:RequestObjectTagKeys": list(tags)}


def part_access(ctx: Context, bucket: Bucket, req: Mapping[str, Any]) -> Sequence[Access]:
    """Parts are judged by the encryption that their upload asked for: their own requests do not speak of it."""
    row = ctx.store.get(bucket.tables.uploads, f"{req['Key']}\0{req['UploadId']}")
    context = row.value.get("asked") if row is not None else None
    return (permission(ctx, bucket, "s3:PutObject", bucket.object_arn(req["Key"]), context),)


def copy_access(ctx: Context, bucket: Bucket, req: Mapping[str, Any]) -> Sequence[Access]:
    source = copy_source_of(req)
    copies_tags = req.get("TaggingDirective") != "REPLACE"
    needed = [*source_access(ctx, source, req)]
    if copies_tags and any(key.startswith("s3:ExistingObjectTag/") for key in needed[0].context):
        origin = get_bucket(ctx, source.bucket)
        action = "s3:GetObjectTagging" if source.version_id is None else "s3:GetObjectVersionTagging"
        needed.append(permission(ctx, origin, action, origin.object_arn(source.key), needed[0].context))
        needed.append(permission(ctx, bucket, "s3:PutObjectTagging", bucket.object_arn(req["Key"])))
    return (*needed, *write_access(ctx, bucket, req))


def part_copy_access(ctx: Context, bucket: Bucket, req: Mapping[str, Any]) -> Sequence[Access]:
    return (*source_access(ctx, copy_source_of(req), req), *part_access(ctx, bucket, req))


def source_access(ctx: Context, source: CopySource, req: Mapping[str, Any]) -> Sequence[Access]:
    origin = get_bucket(ctx, source.bucket)
    expected = req.get("ExpectedSourceBucketOwner")
    if expected is not None and expected != origin.account:
        raise access_denied()
    if origin.zone:
        return (entry(ctx, origin, "ReadOnly"),)
    if origin.point is not None:
        if origin.lens is not None:
            raise invalid_request("An Object Lambda access point cannot be the source of a copy.")
        check_point(ctx, origin.point, "GetObject")
    if REQUESTER_PAYS in origin.value:
        check_entry(ctx, "GetObject", origin, req)
    wanted: dict[str, Any] = {"Key": source.key}
    if source.version_id is not None:
        wanted["VersionId"] = source.version_id
    return read_access(ctx, origin, wanted)


def object_access(ctx: Context, bucket: Bucket, req: Mapping[str, Any], action: str) -> Sequence[Access]:
    """Actions on an object, or on the version that is named."""
    context: dict[str, Any] = {}
    version_id = req.get("VersionId")
    value: Mapping[str, Any] | None = None
    is_on_tags, is_on_acl = action.endswith("Tagging"), action.endswith("Acl")
    if is_on_tags or is_on_acl or bucket.has_acls:
        with suppress(ServiceError):
            value = find_object(ctx, bucket, req["Key"], version_id).value
    if version_id is not None:
        action = action.replace("Object", "ObjectVersion")
        context["s3:VersionId"] = version_id
    if is_on_tags or is_on_acl:
        context |= existing_tags(value.get("tags") if value is not None else None)
    if is_on_tags and "Tagging" in req:
        context |= requested_tags({tag["Key"]: tag.get("Value", "") for tag in req["Tagging"].get("TagSet") or []})
    if is_on_acl:
        context |= {key: req[member] for member, key in WRITE_KEYS.items() if member in req}
    return (permission(ctx, bucket, action, bucket.object_arn(req["Key"]), context, value),)


def lock_access(ctx: Context, bucket: Bucket, req: Mapping[str, Any], action: str) -> Sequence[Access]:
    """Retention and legal hold; the actions are the same for versions."""
    context: dict[str, Any] = dict(condition_keys(req, ctx.clock.now()))
    if "VersionId" in req:
        context["s3:VersionId"] = req["VersionId"]
    return (permission(ctx, bucket, action, bucket.object_arn(req["Key"]), context),)


def restore_access(ctx: Context, bucket: Bucket, req: Mapping[str, Any]) -> Sequence[Access]:
    """One action for objects and versions."""
    context = {"s3:VersionId": req["VersionId"]} if "VersionId" in req else None
    return (permission(ctx, bucket, "s3:RestoreObject", bucket.object_arn(req["Key"]), context),)


def create_upload_access(ctx: Context, bucket: Bucket, req: Mapping[str, Any]) -> Sequence[Access]:
    return write_access(ctx, bucket, req)


def abort_access(ctx: Context, bucket: Bucket, req: Mapping[str, Any]) -> Sequence[Access]:
    return (upload_permission(ctx, bucket, req, "s3:AbortMultipartUpload"),)


def list_parts_access(ctx: Context, bucket: Bucket, req: Mapping[str, Any]) -> Sequence[Access]:
    return (upload_permission(ctx, bucket, req, "s3:ListMultipartUploadParts"),)


def upload_permission(ctx: Context, bucket: Bucket, req: Mapping[str, Any], action: str) -> Access:
    """Where lists count, whoever began an upload may look at its parts and give it up."""
    access = permission(ctx, bucket, action, bucket.object_arn(req["Key"]))
    if bucket.has_acls and ctx.principal.account != bucket.account and bucket.point is None:
        row = ctx.store.get(bucket.tables.uploads, f"{req['Key']}\0{req['UploadId']}")
        arn = str(row.value["initiator"]) if row is not None else ""
        if arn and arn.split(":")[4] == ctx.principal.account:
            access.acl = ACCOUNT
    return access


def list_uploads_access(ctx: Context, bucket: Bucket, req: Mapping[str, Any]) -> Sequence[Access]:
    return (permission(ctx, bucket, "s3:ListBucketMultipartUploads", bucket.arn, list_context(req)),)


RULES: dict[str, Rule] = {
    "GetObject": read_access,
    "HeadObject": read_access,
    "SelectObjectContent": read_access,
    "GetObjectAttributes": attributes_access,
    "PutObject": write_access,
    "CopyObject": copy_access,
    "CreateMultipartUpload": create_upload_access,
    "UploadPart": part_access,
    "UploadPartCopy": part_copy_access,
    "CompleteMultipartUpload": part_access,
    "AbortMultipartUpload": abort_access,
    "ListParts": list_parts_access,
    "RestoreObject": restore_access,
    "ListMultipartUploads": list_uploads_access,
    "ListObjects": list_access,
    "ListObjectsV2": list_access,
    "ListObjectVersions": list_versions_access,
}
