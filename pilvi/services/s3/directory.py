"""Directory buckets (S3 Express One Zone): made in one Availability Zone, entered by sessions, renaming without copying.

    NAME--ZONE--x-s3            CreateSession -> keys for five minutes, x-amz-s3session-token with every request

Objects lie where all others lie; what differs is how one gets in (`directory_access`) and what there is not.

Source: S3 User Guide, "Directory buckets", "Differences for directory buckets", "Authorizing Zonal endpoint API operations with
CreateSession"; S3 API Reference, CreateSession, ListDirectoryBuckets, RenameObject.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from pilvi.core.errors import AlreadyExists, Invalid, ServiceError
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Access, Context, Operations
from pilvi.services.s3.access import entry
from pilvi.services.s3.attributes import check_key
from pilvi.services.s3.catalog import BUCKETS, Bucket, find_bucket, get_bucket, own_directories
from pilvi.services.s3.condition import check_read, check_write
from pilvi.services.s3.directory_rules import NAME, SUFFIX, arn_of, check_zone
from pilvi.services.s3.errors import (
    access_denied,
    invalid_argument,
    invalid_request,
    malformed_xml,
    no_such_bucket,
    no_such_key,
    not_implemented,
)
from pilvi.services.s3.history import Plan, carry_out_now, drop, find_current
from pilvi.storage.records import Delete, Insert, Update

ops = Operations()

SESSION_S = 300
"""Source: S3 API Reference, CreateSession."""
BUCKETS_PER_PAGE = 1000
EVERYTHING_BLOCKED = {"BlockPublicAcls": True, "IgnorePublicAcls": True, "BlockPublicPolicy": True, "RestrictPublicBuckets": True}


def create_directory(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """CreateBucket for a name of this form.

    req: Bucket, CreateBucketConfiguration {Location {Type (AvailabilityZone), Name}, Bucket {Type (Directory), DataRedundancy}}.
    Errors: InvalidBucketName; InvalidRequest - the zone in the name is another than Location's, or in another Region; BucketAlreadyExists.
    """
    name = req["Bucket"]
    found = NAME.match(name)
    if found is None or len(name) > 63:
        raise ServiceError("InvalidBucketName", "The specified bucket is not valid.", 400, BucketName=name)
    configuration = req.get("CreateBucketConfiguration") or {}
    location, kind = configuration.get("Location") or {}, configuration.get("Bucket") or {}
    if kind.get("Type") != "Directory" or location.get("Type") not in ("AvailabilityZone", "LocalZone"):
        raise malformed_xml()
    if location["Type"] == "LocalZone":
        raise not_implemented("CreateBucketConfiguration.Location.Type")
    if kind.get("DataRedundancy", "SingleAvailabilityZone") != "SingleAvailabilityZone":
        raise malformed_xml()
    if location.get("Name") != found["zone"]:
        raise invalid_request("The Availability Zone in the bucket name does not match the one in the location.")
    for member in ("ACL", "ObjectLockEnabledForBucket", "GrantRead", "GrantWrite", "GrantFullControl"):
        if req.get(member):
            raise not_implemented(member)
    check_zone(found["zone"], ctx.region)
    value = {
        "Name": name,
        "Account": ctx.account,
        "Region": ctx.region,
        "CreationDate": ctx.clock.now().replace(microsecond=0),
        "PublicAccessBlock": EVERYTHING_BLOCKED,
        "Zone": found["zone"],
    }
    listed = {"Region": ctx.region, "CreationDate": value["CreationDate"]}
    try:
        ctx.write(Insert(BUCKETS, name, value), Insert(own_directories(ctx.account, ctx.region), name, listed))
    except AlreadyExists:
        raise taken(ctx, name) from None
    return {"Location": f"{ctx.cloud.endpoint}/{name}", "BucketArn": arn_of(ctx.region, ctx.account, name)}


def taken(ctx: Context, name: str) -> ServiceError:
    there = find_bucket(ctx, name)
    if there is not None and there.account == ctx.account:
        text = "Your previous request to create the named bucket succeeded and you already own it."
        return ServiceError("BucketAlreadyOwnedByYou", text, 409, BucketName=name)
    text = "The requested bucket name is not available. Please select a different name and try again."
    return ServiceError("BucketAlreadyExists", text, 409, BucketName=name)


@ops
def list_directory_buckets(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The account's directory buckets in this Region, by name.

    req: MaxDirectoryBuckets (1,000), ContinuationToken.
    Errors: InvalidArgument - a foreign token.
    Source: S3 API Reference, ListDirectoryBuckets.
    """
    limit = min(req.get("MaxDirectoryBuckets", BUCKETS_PER_PAGE), BUCKETS_PER_PAGE)
    try:
        after = decode_token(req.get("ContinuationToken"))
    except Invalid:
        raise invalid_argument("The continuation token provided is incorrect", "continuation-token", "") from None
    rows = ctx.store.scan(own_directories(ctx.account, ctx.region), after=after, limit=limit + 1)
    buckets = [
        {
            "Name": row.id,
            "CreationDate": row.value["CreationDate"],
            "BucketRegion": row.value["Region"],
            "BucketArn": arn_of(row.value["Region"], ctx.account, row.id),
        }
        for row in rows[:limit]
    ]
    more = {"ContinuationToken": encode_token(rows[limit - 1].id)} if len(rows) > limit > 0 else {}
    return {"Buckets": buckets, **more}


@ops
def create_session(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Keys for one directory bucket, good for five minutes: to read and write, or only to read.

    req: Bucket, SessionMode (ReadWrite, ReadOnly).
    Errors: NoSuchBucket; InvalidRequest - no directory bucket; AccessDenied; NotImplemented - keys of KMS.
    Source: S3 API Reference, CreateSession. Without a mode it is ReadWrite where that is allowed, else ReadOnly.
    Differs: SDKs that are told an endpoint open a session for every call, CreateBucket too. So whoever may make a bucket gets keys for
    its name, which are good for that.
    """
    if req["Bucket"].endswith(SUFFIX) and find_bucket(ctx, req["Bucket"]) is None:
        return session_before_bucket(ctx, req["Bucket"])
    bucket = get_bucket(ctx, req["Bucket"])
    if bucket.region != ctx.region:
        raise no_such_bucket(bucket.name)
    if not bucket.zone:
        raise invalid_request("CreateSession is only supported on directory buckets.")
    if req.get("ServerSideEncryption", "AES256") != "AES256" or "SSEKMSKeyId" in req:
        raise not_implemented("x-amz-server-side-encryption")
    mode = req.get("SessionMode") or ("ReadWrite" if ctx.allows(entry(ctx, bucket, "ReadWrite")) else "ReadOnly")
    if mode not in ("ReadWrite", "ReadOnly"):
        raise invalid_argument("The session mode is not valid.", "x-amz-create-session-mode", mode)
    if not ctx.allows(entry(ctx, bucket, mode)):
        raise access_denied()
    return session_for(ctx, bucket.arn, mode)


def session_before_bucket(ctx: Context, name: str) -> Mapping[str, Any]:
    arn = arn_of(ctx.region, ctx.account, name)
    if not ctx.allows(Access("s3express:CreateBucket", arn, None, ctx.account)):
        raise no_such_bucket(name)
    return session_for(ctx, arn, "Regional")


def session_for(ctx: Context, arn: str, mode: str) -> Mapping[str, Any]:
    if ctx.identity is None:
        raise access_denied()
    made = ctx.cloud.identities.bucket_session(ctx.identity, arn, mode, SESSION_S)
    return {
        "Credentials": {
            "AccessKeyId": made.access_key_id,
            "SecretAccessKey": made.secret,
            "SessionToken": made.session_token,
            "Expiration": made.expires,
        },
        "ServerSideEncryption": "AES256",
    }


@ops
def rename_object(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give an object another key in one step, without copying. What had that key is replaced.

    req: Bucket (a directory bucket), Key (the new one), RenameSource (the old one), Source* and Destination* conditions.
    Errors: NoSuchKey; PreconditionFailed; InvalidRequest - onto itself; NotImplemented - in a general purpose bucket.
    Source: S3 API Reference, RenameObject.
    """
    bucket, key = get_bucket(ctx, req["Bucket"]), req["Key"]
    old = unquote(req["RenameSource"]).lstrip("/").removeprefix(f"{bucket.name}/")
    check_key(key)
    if not bucket.zone:
        raise not_implemented("x-amz-rename-source")
    if old == key:
        raise invalid_request("The source and the destination of a rename must be different.")
    on_source = {name.removeprefix("Source"): value for name, value in req.items() if name.startswith("SourceIf")}
    on_target = {name.removeprefix("Destination"): value for name, value in req.items() if name.startswith("DestinationIf")}

    def make(bucket: Bucket) -> Plan:
        source, target = find_current(ctx, bucket, old), find_current(ctx, bucket, key)
        if source is None:
            raise no_such_key(old)
        check_read(on_source, source.value["etag"], source.value["mtime"])
        check_write(on_target, key, None if target is None else target.value["etag"])
        plan = Plan([Delete(source.table, old, source.row.version)])
        if target is None:
            plan.changes.append(Insert(bucket.tables.objects, key, source.value))
        else:
            drop(ctx, bucket, plan, target.value)
            plan.changes.append(Update(target.table, key, source.value, target.row.version))
        return plan

    carry_out_now(ctx, bucket.name, make)
    return {}
