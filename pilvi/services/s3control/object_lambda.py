"""Object Lambda access points: names under which functions rewrite what is read through another access point.

A row stands under the point's ARN on the shelf of the buckets, and a second one under its alias; S3 reads both (its catalog.py), so
what is changed here counts with the next request. What the functions get and give is in S3's object_lambda.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pilvi.auth.public import is_public_policy
from pilvi.auth.s3_policy import checked_policy
from pilvi.core.arn import Arn, partition_of
from pilvi.core.service import Access, Context, Operations
from pilvi.services.s3control import point_rows
from pilvi.services.s3control.access import RULES
from pilvi.services.s3control.access_point import POINTS, SWITCHES
from pilvi.services.s3control.errors import access_denied, invalid_request, not_implemented
from pilvi.services.s3control.point_rows import ALIAS_SUFFIXES, SHELF, with_policy
from pilvi.storage.records import Row, Table

ops = Operations()

LENSES = Table("", "", SHELF, "ObjectLambda")
LIMIT = 1000
"""Object Lambda access points an account may have in a Region. Source: S3 endpoints and quotas."""
ACTIONS = frozenset({"GetObject", "HeadObject", "ListObjects", "ListObjectsV2"})
FEATURES = frozenset({"GetObject-Range", "GetObject-PartNumber", "HeadObject-Range", "HeadObject-PartNumber"})

_FUNCTION = re.compile(
    r"arn:[a-zA-Z-]+:lambda:(?P<region>[a-z0-9-]+):\d{12}:function:[a-zA-Z0-9_-]+(?::(?:\$LATEST|[a-zA-Z0-9_-]+))?\Z"
)


# -- life -----------------------------------------------------------------------------------------------------------------


@ops
def create_access_point_for_object_lambda(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Put functions before an access point of this account.

    req: AccountId, Name (3-45 of a-z 0-9 -), Configuration {SupportingAccessPoint (ARN), TransformationConfigurations [{Actions
    (GetObject, HeadObject, ListObjects, ListObjectsV2), ContentTransformation {AwsLambda {FunctionArn, FunctionPayload}}}],
    AllowedFeatures (GetObject-Range, GetObject-PartNumber, HeadObject-Range, HeadObject-PartNumber)}.
    Errors: InvalidAccessPoint - the name; InvalidRequest - the configuration; AccessPointAlreadyOwnedByYou; TooManyAccessPoints;
    NotImplemented - CloudWatchMetricsEnabled.
    Source: S3 Control API Reference, CreateAccessPointForObjectLambda; S3 User Guide, "Creating Object Lambda Access Points".
    Differs: open to every account, where AWS takes no new customers since November 2025.
    """
    name = req["Name"]
    point_rows.check_name(name, 45)
    configuration = checked_configuration(ctx, req["Configuration"])
    point_rows.check_room(ctx, LENSES, lens_arn(ctx, ""), LIMIT)
    arn, alias = lens_arn(ctx, name), point_rows.alias_for(ctx, name, ALIAS_SUFFIXES[1])
    value = {
        "Name": name,
        "Account": ctx.account,
        "Alias": alias,
        "CreationDate": ctx.clock.now().replace(microsecond=0),
        "Configuration": configuration,
    }
    point_rows.insert(ctx, LENSES, arn, value)
    return {"ObjectLambdaAccessPointArn": arn, "Alias": alias_entry(value)}


def alias_entry(value: Mapping[str, Any]) -> dict[str, str]:
    return {"Value": value["Alias"], "Status": "READY"}


@ops
def get_access_point_for_object_lambda(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is known of an Object Lambda access point. It is never public: all four switches are on.

    Errors: NoSuchAccessPoint.
    Source: S3 Control API Reference, GetAccessPointForObjectLambda.
    """
    value = find_lens(ctx, req["Name"]).value
    return {
        "Name": value["Name"],
        "PublicAccessBlockConfiguration": dict.fromkeys(SWITCHES, True),
        "CreationDate": value["CreationDate"],
        "Alias": alias_entry(value),
    }


@ops
def list_access_points_for_object_lambda(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The account's Object Lambda access points in this Region, by name.

    req: AccountId, MaxResults (1,000), NextToken.
    Errors: InvalidRequest - a foreign token.
    Source: S3 Control API Reference, ListAccessPointsForObjectLambda.
    """
    rows, following = point_rows.page(ctx, LENSES, lens_arn(ctx, ""), req)
    entries = [{"Name": row.value["Name"], "ObjectLambdaAccessPointArn": row.id, "Alias": alias_entry(row.value)} for row in rows]
    return {"ObjectLambdaAccessPointList": entries, **following}


@ops
def delete_access_point_for_object_lambda(ctx: Context, req: Mapping[str, Any]) -> None:
    """Take an Object Lambda access point away, with its policy and its alias. Functions and objects stay as they are.

    Errors: NoSuchAccessPoint.
    Source: S3 Control API Reference, DeleteAccessPointForObjectLambda.
    """
    point_rows.delete(ctx, LENSES, find_lens(ctx, req["Name"]))


# -- its configuration ----------------------------------------------------------------------------------------------------


@ops
def put_access_point_configuration_for_object_lambda(ctx: Context, req: Mapping[str, Any]) -> None:
    """Replace which functions run, and behind which access point.

    req: as create_access_point_for_object_lambda.
    Errors: NoSuchAccessPoint; InvalidRequest - the configuration; NotImplemented - CloudWatchMetricsEnabled.
    Source: S3 Control API Reference, PutAccessPointConfigurationForObjectLambda.
    """
    find_lens(ctx, req["Name"])
    change(ctx, req["Name"], Configuration=checked_configuration(ctx, req["Configuration"]))


@ops
def get_access_point_configuration_for_object_lambda(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration as it was put.

    Errors: NoSuchAccessPoint.
    Source: S3 Control API Reference, GetAccessPointConfigurationForObjectLambda.
    """
    return {"Configuration": find_lens(ctx, req["Name"]).value["Configuration"]}


def checked_configuration(ctx: Context, given: Mapping[str, Any]) -> dict[str, Any]:
    """Errors: InvalidRequest - no such access point here, an action or a feature there is not, a function elsewhere, an action twice."""
    if given.get("CloudWatchMetricsEnabled"):
        raise not_implemented("CloudWatchMetricsEnabled of Object Lambda access points")
    arn = given["SupportingAccessPoint"]
    row = ctx.store.get(POINTS, arn)
    if row is None or row.value["Account"] != ctx.account or arn.split(":")[3] != ctx.region:
        raise invalid_request("The supporting access point must be an access point of this account in this Region.")
    seen: set[str] = set()
    for entry in given["TransformationConfigurations"]:
        check_transformation(ctx, entry, seen)
    if not seen:
        raise invalid_request("At least one transformation configuration with an action must be specified.")
    features = given.get("AllowedFeatures") or []
    if unknown := set(features) - FEATURES:
        raise invalid_request(f"Unknown allowed feature: {sorted(unknown)[0]}")
    return {"CloudWatchMetricsEnabled": False, "AllowedFeatures": list(features), **without_none(given)}


def check_transformation(ctx: Context, entry: Mapping[str, Any], seen: set[str]) -> None:
    """seen: the actions of the entries before; completed."""
    for action in entry["Actions"]:
        if action not in ACTIONS:
            raise invalid_request(f"Unknown action of a transformation configuration: {action}")
        if action in seen:
            raise invalid_request(f"The action {action} stands in more than one transformation configuration.")
        seen.add(action)
    function = (entry["ContentTransformation"].get("AwsLambda") or {}).get("FunctionArn", "")
    found = _FUNCTION.match(function)
    if found is None:
        raise invalid_request("The content transformation must name a Lambda function by its ARN.")
    if found["region"] != ctx.region:
        raise invalid_request("The Lambda function must be in the Region of the Object Lambda access point.")


def without_none(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


# -- its policy -----------------------------------------------------------------------------------------------------------


@ops
def put_access_point_policy_for_object_lambda(ctx: Context, req: Mapping[str, Any]) -> None:
    """Set the policy of an Object Lambda access point: who may call which `s3-object-lambda:` action on it.

    req: AccountId, Name, Policy (JSON, up to 20 KiB, about the point's ARN).
    Errors: NoSuchAccessPoint; MalformedPolicy; AccessDenied - public: these access points never are.
    Source: S3 Control API Reference, PutAccessPointPolicyForObjectLambda.
    """
    row = find_lens(ctx, req["Name"])
    document = checked_policy(row.id, req["Policy"])
    if is_public_policy(document):
        raise access_denied(
            f"User: {ctx.principal.arn or ctx.principal.name} is not authorized to perform: s3:PutAccessPointPolicyForObjectLambda on "
            f'resource: "{row.id}" because public policies are prevented by the BlockPublicPolicy setting in S3 Block Public Access.'
        )
    change(ctx, req["Name"], Policy=req["Policy"], _policy=document)


@ops
def get_access_point_policy_for_object_lambda(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The policy as it was put.

    Errors: NoSuchAccessPoint, NoSuchAccessPointPolicy.
    Source: S3 Control API Reference, GetAccessPointPolicyForObjectLambda.
    """
    return {"Policy": with_policy(find_lens(ctx, req["Name"]))["Policy"]}


@ops
def get_access_point_policy_status_for_object_lambda(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Whether the policy lets the public in, which it never does.

    Errors: NoSuchAccessPoint, NoSuchAccessPointPolicy.
    Source: S3 Control API Reference, GetAccessPointPolicyStatusForObjectLambda.
    """
    value = with_policy(find_lens(ctx, req["Name"]))
    return {"PolicyStatus": {"IsPublic": is_public_policy(value["_policy"])}}


@ops
def delete_access_point_policy_for_object_lambda(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove the policy; there need not be one.

    Errors: NoSuchAccessPoint.
    Source: S3 Control API Reference, DeleteAccessPointPolicyForObjectLambda.
    """
    change(ctx, req["Name"], Policy=None, _policy=None)


# -- rows -----------------------------------------------------------------------------------------------------------------


def lens_arn(ctx: Context, name: str) -> str:
    return str(Arn(partition_of(ctx.region), "s3-object-lambda", ctx.region, ctx.account, f"accesspoint/{name}"))


def find_lens(ctx: Context, name: str) -> Row:
    """By name, in this account and Region. NoSuchAccessPoint."""
    return point_rows.find(ctx, LENSES, lens_arn(ctx, name), name)


def change(ctx: Context, name: str, **members: Any) -> None:
    point_rows.change(ctx, LENSES, lambda: find_lens(ctx, name), **members)


# -- permissions ----------------------------------------------------------------------------------------------------------


def lens_rule(action: str) -> Any:
    return lambda ctx, req: (Access(action, lens_arn(ctx, req["Name"])),)


RULES.update(
    {
        name: lens_rule(f"s3:{name}")
        for name in (
            "CreateAccessPointForObjectLambda",
            "GetAccessPointForObjectLambda",
            "DeleteAccessPointForObjectLambda",
            "PutAccessPointConfigurationForObjectLambda",
            "GetAccessPointConfigurationForObjectLambda",
            "PutAccessPointPolicyForObjectLambda",
            "GetAccessPointPolicyForObjectLambda",
            "GetAccessPointPolicyStatusForObjectLambda",
            "DeleteAccessPointPolicyForObjectLambda",
        )
    }
)
