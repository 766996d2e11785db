"""Access points: named ways into a bucket, each with its own host name, policy, public access block and, if wanted, one VPC.

A row stands under the point's ARN on the shelf of the buckets, and a second one under its alias; S3 reads both (its catalog.py), so
what is changed here counts with the next request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.auth.public import is_public_policy
from pilvi.auth.s3_policy import checked_policy
from pilvi.core.arn import Arn, partition_of
from pilvi.core.errors import ServiceError
from pilvi.core.service import Access, Context, Operations
from pilvi.services.s3control import point_rows
from pilvi.services.s3control.access import RULES
from pilvi.services.s3control.errors import access_denied, invalid_request, not_implemented
from pilvi.services.s3control.point_rows import ALIAS_SUFFIXES, SHELF, with_policy
from pilvi.storage.records import Row, Table

ops = Operations()

POINTS = Table("", "", SHELF, "AccessPoint")
BUCKETS = Table("", "", SHELF, "Bucket")
SWITCHES = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
LIMIT = 10_000
"""Access points an account may have in a Region. Source: S3 User Guide, "Access points restrictions and limitations"."""


# -- life -----------------------------------------------------------------------------------------------------------------


@ops
def create_access_point(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make a named way into a bucket of this account, or of another one that is named.

    req: AccountId, Name (3-50 of a-z 0-9 -), Bucket, BucketAccountId, VpcConfiguration {VpcId}, PublicAccessBlockConfiguration (all
    four are on when it is left out).
    Errors: InvalidAccessPoint - the name; NoSuchBucket; AccessDenied - another account's bucket, and not named as such;
    AccessPointAlreadyOwnedByYou; TooManyAccessPoints; InvalidRequest - the bucket lies in another Region; NotImplemented - Scope, Tags.
    Source: S3 Control API Reference, CreateAccessPoint; S3 User Guide, "Access points".
    Differs: points of directory buckets and Outposts are refused.
    """
    for member in ("Scope", "Tags"):
        if req.get(member):
            raise not_implemented(f"{member} of access points")
    name = req["Name"]
    point_rows.check_name(name, 50)
    owner = bucket_owner(ctx, req)
    arn = arn_of(ctx, name)
    point_rows.check_room(ctx, POINTS, arn_of(ctx, ""), LIMIT)
    given = req.get("PublicAccessBlockConfiguration")
    alias = point_rows.alias_for(ctx, name, ALIAS_SUFFIXES[0])
    value: dict[str, Any] = {
        "Name": name,
        "Account": ctx.account,
        "Bucket": req["Bucket"],
        "BucketAccountId": owner,
        "Alias": alias,
        "CreationDate": ctx.clock.now().replace(microsecond=0),
        "PublicAccessBlockConfiguration": {name: True if given is None else bool(given.get(name)) for name in SWITCHES},
    }
    if vpc := req.get("VpcConfiguration"):
        value["VpcConfiguration"] = vpc
    point_rows.insert(ctx, POINTS, arn, value)
    return {"AccessPointArn": arn, "Alias": alias}


def bucket_owner(ctx: Context, req: Mapping[str, Any]) -> str:
    """The account of the bucket, which the caller must know when it is not its own."""
    row = ctx.store.get(BUCKETS, req["Bucket"])
    if row is None:
        raise ServiceError("NoSuchBucket", "The specified bucket does not exist", 404, BucketName=req["Bucket"])
    owner = str(row.value["Account"])
    if owner != req.get("BucketAccountId", ctx.account):
        raise access_denied()
    if "Zone" in row.value:
        raise not_implemented("Access points of directory buckets")
    if row.value["Region"] != ctx.region:
        raise invalid_request("The bucket you specified is not in the Region of this request.")
    return owner


@ops
def get_access_point(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is known of an access point.

    Errors: NoSuchAccessPoint.
    Source: S3 Control API Reference, GetAccessPoint.
    """
    row = find_point(ctx, req["Name"])
    hosts = {"ipv4": "s3-accesspoint", "dualstack": "s3-accesspoint.dualstack", "fips": "s3-accesspoint-fips"}
    hosts["fips_dualstack"] = "s3-accesspoint-fips.dualstack"
    return {
        **described(row),
        "PublicAccessBlockConfiguration": row.value["PublicAccessBlockConfiguration"],
        "CreationDate": row.value["CreationDate"],
        "Endpoints": {kind: f"{host}.{ctx.region}.amazonaws.com" for kind, host in hosts.items()},
    }


@ops
def list_access_points(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The account's access points in this Region, or those of one bucket, by name.

    req: AccountId, Bucket, MaxResults (1,000), NextToken.
    Errors: InvalidRequest - a foreign token.
    Source: S3 Control API Reference, ListAccessPoints.
    """
    wanted = req.get("Bucket")
    rows, following = point_rows.page(
        ctx, POINTS, arn_of(ctx, ""), req, lambda row: wanted is None or row.value["Bucket"] == wanted
    )
    return {"AccessPointList": [described(row) for row in rows], **following}


@ops
def delete_access_point(ctx: Context, req: Mapping[str, Any]) -> None:
    """Take an access point away, with its policy and its alias. The bucket stays as it is.

    Errors: NoSuchAccessPoint.
    Source: S3 Control API Reference, DeleteAccessPoint.
    """
    point_rows.delete(ctx, POINTS, find_point(ctx, req["Name"]))


# -- its policy -----------------------------------------------------------------------------------------------------------


@ops
def put_access_point_policy(ctx: Context, req: Mapping[str, Any]) -> None:
    """Set the policy of an access point. It narrows what the bucket's own policy, or the caller's, allows; both must.

    req: AccountId, Name, Policy (JSON, up to 20 KiB, about the point's ARN and `.../object/...`).
    Errors: NoSuchAccessPoint; MalformedPolicy; AccessDenied - public, and BlockPublicPolicy is on for the point, bucket or account.
    Source: S3 Control API Reference, PutAccessPointPolicy; S3 User Guide, "Configuring IAM policies for using access points".
    """
    row = find_point(ctx, req["Name"])
    text = req["Policy"]
    document = checked_policy(row.id, text)
    if is_public(row.value, document) and blocks_policies(ctx, row.value):
        raise access_denied(
            f"User: {ctx.principal.arn or ctx.principal.name} is not authorized to perform: s3:PutAccessPointPolicy on resource: "
            f'"{row.id}" because public policies are prevented by the BlockPublicPolicy setting in S3 Block Public Access.'
        )
    change(ctx, req["Name"], Policy=text, _policy=document)


def is_public(point: Mapping[str, Any], document: Mapping[str, Any]) -> bool:
    """A point that may be used from a VPC only is never public."""
    return "VpcConfiguration" not in point and is_public_policy(document)


def blocks_policies(ctx: Context, point: Mapping[str, Any]) -> bool:
    """Whether the point, its account, its bucket or the bucket's account refuse public policies."""
    levels = [point["PublicAccessBlockConfiguration"]]
    if (bucket := ctx.store.get(BUCKETS, point["Bucket"])) is not None:
        levels.append(bucket.value.get("PublicAccessBlock") or {})
    for account in (ctx.account, point["BucketAccountId"]):
        row = ctx.store.get(Table(account, "", SHELF, "Account"), "PublicAccessBlock")
        levels.append(row.value if row is not None else {})
    return any(level.get("BlockPublicPolicy") for level in levels)


@ops
def get_access_point_policy(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The policy as it was put.

    Errors: NoSuchAccessPoint, NoSuchAccessPointPolicy.
    Source: S3 Control API Reference, GetAccessPointPolicy.
    """
    return {"Policy": with_policy(find_point(ctx, req["Name"]))["Policy"]}


@ops
def get_access_point_policy_status(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Whether the policy lets the public in.

    Errors: NoSuchAccessPoint, NoSuchAccessPointPolicy.
    Source: S3 Control API Reference, GetAccessPointPolicyStatus.
    """
    point = with_policy(find_point(ctx, req["Name"]))
    return {"PolicyStatus": {"IsPublic": is_public(point, point["_policy"])}}


@ops
def delete_access_point_policy(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove the policy; there need not be one.

    Errors: NoSuchAccessPoint.
    Source: S3 Control API Reference, DeleteAccessPointPolicy.
    """
    change(ctx, req["Name"], Policy=None, _policy=None)


# -- rows -----------------------------------------------------------------------------------------------------------------


def arn_of(ctx: Context, name: str) -> str:
    return str(Arn(partition_of(ctx.region), "s3", ctx.region, ctx.account, f"accesspoint/{name}"))


def find_point(ctx: Context, name: str) -> Row:
    """By name, or by the ARN of one in this account and Region. NoSuchAccessPoint."""
    return point_rows.find(ctx, POINTS, name if name.startswith(arn_of(ctx, "")) else arn_of(ctx, name), name)


def described(row: Row) -> dict[str, Any]:
    """What lists tell of a point."""
    value = row.value
    answer = {name: value[name] for name in ("Name", "Bucket", "Alias", "BucketAccountId")}
    answer |= {"AccessPointArn": row.id, "NetworkOrigin": "VPC" if "VpcConfiguration" in value else "Internet"}
    if "VpcConfiguration" in value:
        answer["VpcConfiguration"] = value["VpcConfiguration"]
    return answer


def change(ctx: Context, name: str, **members: Any) -> None:
    point_rows.change(ctx, POINTS, lambda: find_point(ctx, name), **members)


# -- permissions ----------------------------------------------------------------------------------------------------------


def point_rule(action: str) -> Any:
    return lambda ctx, req: (Access(action, arn_of(ctx, req["Name"].rpartition("/")[2]), context=point_context(req)),)


def point_context(req: Mapping[str, Any]) -> dict[str, Any]:
    """s3:AccessPointNetworkOrigin of a new point, so that a policy may want VPC ones only."""
    if "Bucket" not in req:
        return {}
    return {"s3:AccessPointNetworkOrigin": "VPC" if req.get("VpcConfiguration") else "Internet"}


RULES.update(
    {
        name: point_rule(f"s3:{name}")
        for name in (
            "CreateAccessPoint",
            "GetAccessPoint",
            "DeleteAccessPoint",
            "PutAccessPointPolicy",
            "GetAccessPointPolicy",
            "GetAccessPointPolicyStatus",
            "DeleteAccessPointPolicy",
        )
    }
)
