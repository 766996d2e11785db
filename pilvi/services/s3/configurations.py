"""Settings of a bucket of which it may have up to a thousand, by Id: metrics, analytics, inventory.

They are kept in the bucket's row, a member for each kind: {Id: configuration}.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context
from pilvi.services.s3.bucket import change_bucket
from pilvi.services.s3.catalog import Bucket, find_bucket, get_bucket
from pilvi.services.s3.errors import invalid_argument, malformed_xml

LIMIT = 1000
PAGE = 100

Configuration = Mapping[str, Any]


def keep(ctx: Context, req: Mapping[str, Any], member: str, configuration: Configuration) -> None:
    """Set one. Errors: InvalidArgument - two Ids; TooManyConfigurations."""
    id = req["Id"]
    if configuration["Id"] != id:
        raise invalid_argument("The id in the request does not match the id in the configuration", "id", id)
    held = dict(get_bucket(ctx, req["Bucket"]).value.get(member) or {})
    if id not in held and len(held) >= LIMIT:
        raise ServiceError(
            "TooManyConfigurations",
            "You are attempting to create a new configuration but have already reached the 1,000-configuration limit.",
            400,
        )
    change_bucket(ctx, req["Bucket"], **{member: lambda row: with_one(row.get(member), id, configuration)})


def find(ctx: Context, req: Mapping[str, Any], member: str) -> Configuration:
    """Errors: NoSuchConfiguration."""
    held = get_bucket(ctx, req["Bucket"]).value.get(member) or {}
    if req["Id"] not in held:
        raise ServiceError("NoSuchConfiguration", "The specified configuration does not exist.", 404)
    found: Configuration = held[req["Id"]]
    return found


def page(ctx: Context, req: Mapping[str, Any], member: str, listed: str) -> dict[str, Any]:
    """Up to 100, by Id."""
    held = get_bucket(ctx, req["Bucket"]).value.get(member) or {}
    token = req.get("ContinuationToken") or ""
    rest = [held[id] for id in sorted(held) if id > token]
    some = rest[:PAGE]
    answer: dict[str, Any] = {"IsTruncated": len(rest) > PAGE, listed: some}
    if token:
        answer["ContinuationToken"] = token
    if len(rest) > PAGE:
        answer["NextContinuationToken"] = some[-1]["Id"]
    return answer


def forget(ctx: Context, req: Mapping[str, Any], member: str) -> None:
    """Errors: NoSuchConfiguration."""
    find(ctx, req, member)
    change_bucket(ctx, req["Bucket"], **{member: lambda row: without_one(row.get(member), req["Id"])})


def with_one(held: Mapping[str, Configuration] | None, id: str, configuration: Configuration) -> dict[str, Configuration]:
    """Those of a bucket as they are now, and one of this Id."""
    return dict(sorted({**(held or {}), id: dict(configuration)}.items()))


def without_one(held: Mapping[str, Configuration] | None, id: str) -> dict[str, Configuration] | None:
    """None where it was the last."""
    return {other: kept for other, kept in (held or {}).items() if other != id} or None


# -- filters ------------------------------------------------------------------------------------------------------------


def check_filter(chosen: Configuration | None) -> None:
    """One condition, or several under And. Errors: MalformedXML."""
    if chosen is None:
        return
    if len(chosen) != 1:
        raise malformed_xml()
    both = chosen.get("And")
    if both is not None and ("Prefix" in both) + ("AccessPointArn" in both) + len(both.get("Tags") or ()) < 2:
        raise malformed_xml()


def is_chosen(chosen: Configuration | None, key: str, tags: Mapping[str, str], point: str) -> bool:
    """Whether a filter takes an object, reached through this access point ('' for none)."""
    if not chosen:
        return True
    both = chosen.get("And") or chosen
    wanted: Iterable[Mapping[str, str]] = both.get("Tags") or ([both["Tag"]] if "Tag" in both else ())
    return (
        key.startswith(both.get("Prefix", ""))
        and both.get("AccessPointArn", point) == point
        and all(tags.get(tag["Key"]) == tag["Value"] for tag in wanted)
    )


# -- destinations -------------------------------------------------------------------------------------------------------


def destination_of(ctx: Context, bucket: Bucket, arn: str, account: str | None) -> Bucket:
    """The bucket that reports go to: there, in the same Region, and the named account's.

    Errors: InvalidS3DestinationBucket; InvalidArgument - not the ARN of a bucket.
    """
    service, _, name = arn.partition(":::")
    if not service.startswith("arn:aws") or not service.endswith(":s3") or not name or "/" in name:
        raise invalid_argument("Invalid bucket ARN.", "Bucket", arn)
    found = find_bucket(ctx, name)
    if found is None or account not in (None, found.account) or found.region != bucket.region:
        raise ServiceError("InvalidS3DestinationBucket", "The destination bucket is not valid.", 400, Bucket=arn)
    return found
