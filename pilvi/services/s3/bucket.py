"""S3 buckets: create, list, head, location, delete. Names are one space for all accounts."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any

from pilvi.auth.principals import canonical_id
from pilvi.auth.region import known_region
from pilvi.core.arn import partition_of
from pilvi.core.errors import AlreadyExists, Conflict, Invalid, NotFound, ServiceError
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Context, Operations
from pilvi.services.s3.acl import Grants, is_public_list, requested
from pilvi.services.s3.attributes import checked_tags
from pilvi.services.s3.catalog import (
    BUCKETS,
    DELETING_S,
    ENFORCED,
    POINTS,
    Bucket,
    get_bucket,
    own_buckets,
    own_directories,
)
from pilvi.services.s3.content import forgetting, release_now
from pilvi.services.s3.directory import create_directory
from pilvi.services.s3.directory_rules import SUFFIX
from pilvi.services.s3.errors import aborted, invalid_argument, no_such_bucket, not_implemented
from pilvi.services.s3.multipart import ending, parts_of
from pilvi.storage.records import Change, Delete, Insert, Row, Table, Update

ops = Operations()

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z")
RESERVED_PREFIXES = ("xn--", "sthree-", "amzn-s3-demo-")
RESERVED_SUFFIXES = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")
OWNERSHIPS = (ENFORCED, "BucketOwnerPreferred", "ObjectWriter")
DEFAULT_REGION = "us-east-1"
BUCKET_LIMIT = 10_000

EVERYTHING_BLOCKED = {"BlockPublicAcls": True, "IgnorePublicAcls": True, "BlockPublicPolicy": True, "RestrictPublicBuckets": True}


@ops
def create_bucket(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make a bucket in the Region of the request; through us-east-1 in any Region.

    req: Bucket (3-63 of a-z 0-9 . -), CreateBucketConfiguration {LocationConstraint, Tags}, ObjectOwnership.
    Errors: InvalidBucketName; InvalidLocationConstraint - us-east-1, or no Region; IllegalLocationConstraintException - another
    Region than the request's; BucketAlreadyOwnedByYou (in us-east-1 the same answer again), BucketAlreadyExists; TooManyBuckets.
    Source: S3 API Reference, CreateBucket; S3 User Guide, "General purpose bucket naming rules".
    """
    name = req["Bucket"]
    if name.endswith(SUFFIX):
        return create_directory(ctx, req)
    check_name(name)
    check_settings(req)
    configuration = req.get("CreateBucketConfiguration") or {}
    region = region_for(ctx.region, configuration.get("LocationConstraint"))
    tags = checked_tags([(tag["Key"], tag["Value"]) for tag in configuration.get("Tags") or ()], 50, TOO_MANY_TAGS)
    own = own_buckets(ctx.account)
    value: dict[str, Any] = {
        "Name": name,
        "Account": ctx.account,
        "Region": region,
        "CreationDate": ctx.clock.now().replace(microsecond=0),
        "PublicAccessBlock": EVERYTHING_BLOCKED,
    }
    if tags:
        value["Tags"] = tags
    if req.get("ObjectLockEnabledForBucket"):
        value |= {"Versioning": "Enabled", "ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled"}}
    if "ObjectOwnership" in req:
        value["ObjectOwnership"] = req["ObjectOwnership"]
    if (grants := first_list(ctx, req)) is not None:
        value["Acl"] = [list(grant) for grant in grants]
    if len(ctx.store.scan(own, limit=BUCKET_LIMIT)) >= BUCKET_LIMIT:
        raise ServiceError("TooManyBuckets", "You have attempted to create more buckets than allowed", 400)
    try:
        listed = {"Region": region, "CreationDate": value["CreationDate"]}
        ctx.write(Insert(BUCKETS, name, value), Insert(own, name, listed))
    except AlreadyExists:
        check_own(ctx, name, region)
    location = f"/{name}" if region == DEFAULT_REGION else f"{ctx.cloud.endpoint}/{name}"
    return {"Location": location, "BucketArn": f"arn:{partition_of(region)}:s3:::{name}"}


TOO_MANY_TAGS = "Bucket tag count cannot be greater than 50"


def check_name(name: str) -> None:
    """Errors: InvalidBucketName."""
    if (
        _NAME.match(name) is None
        or ".." in name
        or name.startswith(RESERVED_PREFIXES)
        or name.endswith(RESERVED_SUFFIXES)
        or is_address(name)
    ):
        raise ServiceError("InvalidBucketName", "The specified bucket is not valid.", 400, BucketName=name)


def is_address(name: str) -> bool:
    try:
        ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return True


def check_settings(req: Mapping[str, Any]) -> None:
    if req.get("BucketNamespace") == "account-regional":
        raise not_implemented("x-amz-bucket-namespace")
    if req.get("ObjectOwnership", ENFORCED) not in OWNERSHIPS:
        raise invalid_argument("Invalid x-amz-object-ownership header: " + req["ObjectOwnership"], "x-amz-object-ownership", "")
    configuration = req.get("CreateBucketConfiguration") or {}
    if "Location" in configuration or "Bucket" in configuration:
        raise not_implemented("CreateBucketConfiguration.Location")


def first_list(ctx: Context, req: Mapping[str, Any]) -> Grants | None:
    """The new bucket's access control list.

    Errors: InvalidBucketAclWithObjectOwnership - lists are off; InvalidBucketAclWithBlockPublicAccessError - a public one.
    Source: S3 User Guide, "Default settings for new S3 buckets"; "Troubleshooting Object Ownership".
    """
    grants = requested(ctx, req, ctx.account, ctx.account)
    if grants is None:
        return None
    if req.get("ObjectOwnership", ENFORCED) == ENFORCED:
        raise ServiceError(
            "InvalidBucketAclWithObjectOwnership",
            "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting",
            400,
        )
    if is_public_list(grants):
        raise ServiceError(
            "InvalidBucketAclWithBlockPublicAccessError", "Bucket cannot have public ACLs set with BlockPublicAccess enabled", 400
        )
    return grants


def region_for(region: str, constraint: str | None) -> str:
    """Where the bucket goes. Source: S3 API Reference, CreateBucket, LocationConstraint; error list."""
    if constraint is None:
        if region != DEFAULT_REGION:
            raise illegal_constraint("unspecified")
        return DEFAULT_REGION
    if constraint == "EU":
        constraint = "eu-west-1"
    if region != DEFAULT_REGION and constraint != region:
        raise illegal_constraint(constraint)
    if constraint == DEFAULT_REGION or not known_region(constraint):
        raise ServiceError(
            "InvalidLocationConstraint", "The specified location-constraint is not valid", 400, LocationConstraint=constraint
        )
    return constraint


def illegal_constraint(constraint: str) -> ServiceError:
    which = "unspecified" if constraint == "unspecified" else constraint
    return ServiceError(
        "IllegalLocationConstraintException",
        f"The {which} location constraint is incompatible for the region specific endpoint this request was sent to.",
        400,
    )


def check_own(ctx: Context, name: str, region: str) -> None:
    """The name is taken: by the caller in us-east-1 that is success, as AWS keeps it for old clients."""
    bucket = get_bucket(ctx, name)
    if bucket.account != ctx.account:
        raise ServiceError(
            "BucketAlreadyExists",
            "The requested bucket name is not available. The bucket namespace is shared by all users of the system. Please select a "
            "different name and try again.",
            409,
            BucketName=name,
        )
    if bucket.region != DEFAULT_REGION or region != DEFAULT_REGION:
        raise ServiceError(
            "BucketAlreadyOwnedByYou",
            "Your previous request to create the named bucket succeeded and you already own it.",
            409,
            BucketName=name,
        )


@ops
def list_buckets(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The account's buckets in every Region, by name.

    req: Prefix, BucketRegion, MaxBuckets (1-10,000), ContinuationToken.
    Errors: InvalidArgument - a foreign token.
    Source: S3 API Reference, ListBuckets.
    """
    prefix, region, limit = req.get("Prefix") or "", req.get("BucketRegion"), req.get("MaxBuckets", BUCKET_LIMIT)
    try:
        after = decode_token(req.get("ContinuationToken"))
    except Invalid:
        raise invalid_argument("The continuation token provided is incorrect", "continuation-token", "") from None
    found: list[Row] = []
    while len(found) <= limit:
        rows = ctx.store.scan(own_buckets(ctx.account), prefix=prefix, after=after, limit=1000)
        found += [row for row in rows if region in (None, row.value["Region"])]
        if len(rows) < 1000:
            break
        after = rows[-1].id
    answer: dict[str, Any] = {
        "Buckets": [bucket_entry(row) for row in found[:limit]],
        "Owner": {"ID": canonical_id(ctx.account)},
    }
    if "Prefix" in req:
        answer["Prefix"] = prefix
    if len(found) > limit:
        answer["ContinuationToken"] = encode_token(found[limit - 1].id)
    return answer


def bucket_entry(row: Row) -> dict[str, Any]:
    region = row.value["Region"]
    return {
        "Name": row.id,
        "CreationDate": row.value["CreationDate"],
        "BucketRegion": region,
        "BucketArn": f"arn:{partition_of(region)}:s3:::{row.id}",
    }


@ops
def head_bucket(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Whether the bucket is there and the caller may list it, and its Region.

    Errors: 404 - there is none; 403 - not allowed.
    Source: S3 API Reference, HeadBucket.
    """
    bucket = get_bucket(ctx, req["Bucket"])
    return {"BucketRegion": bucket.region, "BucketArn": bucket.arn, "AccessPointAlias": bucket.point is not None}


@ops
def get_bucket_location(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The bucket's Region; none for us-east-1.

    Source: S3 API Reference, GetBucketLocation.
    """
    region = get_bucket(ctx, req["Bucket"]).region
    return {"LocationConstraint": None if region == DEFAULT_REGION else region}


@ops
def delete_bucket(ctx: Context, req: Mapping[str, Any]) -> None:
    """Delete an empty bucket. Uploads in progress go with it; versions and delete markers keep it.

    Errors: NoSuchBucket; BucketNotEmpty; BucketHasAccessPointsAttached.
    Source: S3 API Reference, DeleteBucket.
    """
    name = req["Bucket"]
    bucket, version = begin_deletion(ctx, name)
    try:
        check_empty(ctx, bucket)
    except ServiceError:
        take_back_deletion(ctx, bucket, version)
        raise
    uploads, garbage = uploads_of(ctx, bucket)
    try:
        ctx.write(Delete(BUCKETS, name, version), Delete(own_list(bucket), name), *uploads)
    except (Conflict, NotFound):
        raise aborted() from None
    release_now(ctx, garbage)


def own_list(bucket: Bucket) -> Table:
    return own_directories(bucket.account, bucket.region) if bucket.zone else own_buckets(bucket.account)


def uploads_of(ctx: Context, bucket: Bucket) -> tuple[list[Change], list[str]]:
    """What ends every upload in progress, and the bytes that go with them."""
    changes: list[Change] = []
    garbage: list[str] = []
    after = ""
    while rows := ctx.store.scan(bucket.tables.uploads, after=after):
        for upload in rows:
            parts = parts_of(ctx, bucket, upload.id.partition("\0")[2])
            names = [part.value["at"] for part in parts]
            changes += (*ending(bucket, upload, parts), *forgetting(names))
            garbage += names
        after = rows[-1].id
    return changes, garbage


def begin_deletion(ctx: Context, name: str) -> tuple[Bucket, int]:
    """Mark the bucket so that no write can pass unseen between the look whether it is empty and its end."""
    bucket = get_bucket(ctx, name)
    now = ctx.clock.real_s()
    since = bucket.value.get("_deleting")
    if since is not None and now - since < DELETING_S:
        raise aborted()
    try:
        ctx.write(Update(BUCKETS, name, {**bucket.value, "_deleting": now}, bucket.version))
    except Conflict:
        raise aborted() from None
    return bucket, bucket.version + 1


def check_empty(ctx: Context, bucket: Bucket) -> None:
    tables = bucket.tables
    check_no_points(ctx, bucket)
    if ctx.store.scan(tables.objects, limit=1):
        raise ServiceError("BucketNotEmpty", "The bucket you tried to delete is not empty", 409, BucketName=bucket.name)
    if any(ctx.store.scan(table, limit=1) for table in (tables.markers, tables.versions)):
        raise ServiceError(
            "BucketNotEmpty",
            "The bucket you tried to delete is not empty. You must delete all versions in the bucket.",
            409,
            BucketName=bucket.name,
        )


def check_no_points(ctx: Context, bucket: Bucket) -> None:
    """Those of its own account; others' lead nowhere once it is gone. Errors: BucketHasAccessPointsAttached."""
    own, after = f"arn:{partition_of(bucket.region)}:s3:{bucket.region}:{bucket.account}:accesspoint/", ""
    while rows := ctx.store.scan(POINTS, prefix=own, after=after):
        if any(row.value["Bucket"] == bucket.name for row in rows):
            raise ServiceError(
                "BucketHasAccessPointsAttached",
                "The bucket you tried to delete has access points attached. Delete your access points before deleting your bucket.",
                400,
                BucketName=bucket.name,
            )
        after = rows[-1].id


def take_back_deletion(ctx: Context, bucket: Bucket, version: int) -> None:
    """Writes may go on. A mark that somebody else has replaced is theirs."""
    try:
        ctx.write(Update(BUCKETS, bucket.name, bucket.value, version))
    except Conflict:
        return


def change_bucket(ctx: Context, name: str, check: Callable[[Mapping[str, Any]], None] | None = None, /, **members: Any) -> None:
    """Set members of a bucket's row; None removes one. Again when somebody else changed it in between.

    A member that grows out of what is there is given as a function of the row as it is now.
    check: raises when the row as it is now forbids the change.
    """
    while True:
        row = ctx.store.get(BUCKETS, name)
        if row is None:
            raise no_such_bucket(name)
        if check is not None:
            check(row.value)
        new = {key: member(row.value) if callable(member) else member for key, member in members.items()}
        value = {key: member for key, member in {**row.value, **new}.items() if member is not None}
        try:
            ctx.write(Update(BUCKETS, name, value, row.version))
        except Conflict:
            continue
        return
