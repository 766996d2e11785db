"""Intelligent-Tiering configurations: which unread objects move to the archive tiers, and after how long. What tiers are: tiers.py.

Source: S3 API Reference, PutBucketIntelligentTieringConfiguration.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.s3.bucket import change_bucket
from pilvi.services.s3.catalog import get_bucket
from pilvi.services.s3.configurations import with_one, without_one
from pilvi.services.s3.errors import invalid_argument, invalid_request, malformed_xml
from pilvi.services.s3.tiers import MEMBER

ops = Operations()

LEAST_DAYS = {"ARCHIVE_ACCESS": 90, "DEEP_ARCHIVE_ACCESS": 180}
MOST_DAYS = 730
CONFIGURATIONS = 1000
PAGE = 100


@ops
def put_bucket_intelligent_tiering_configuration(ctx: Context, req: Mapping[str, Any]) -> None:
    """Let unread objects of some of the bucket move to the archive tiers.

    req: Bucket, Id, IntelligentTieringConfiguration {Id, Filter {Prefix, Tag, And}, Status, Tierings [{AccessTier, Days}]}; days 90-730
    for ARCHIVE_ACCESS, 180-730 for DEEP_ARCHIVE_ACCESS.
    Errors: InvalidArgument - days, or two Ids; MalformedXML; InvalidRequest - too many configurations.
    Source: S3 API Reference, PutBucketIntelligentTieringConfiguration.
    """
    id, configuration = req["Id"], dict(req["IntelligentTieringConfiguration"])
    if configuration["Id"] != id:
        raise malformed_xml()
    check_tierings(configuration.get("Tierings") or [])
    check_filter(configuration.get("Filter") or {})
    held = dict(get_bucket(ctx, req["Bucket"]).value.get(MEMBER) or {})
    if id not in held and len(held) >= CONFIGURATIONS:
        raise ServiceError(
            "TooManyConfigurations",
            "You are attempting to create a new configuration but have already reached the 1,000-configuration limit.",
            400,
        )
    change_bucket(ctx, req["Bucket"], **{MEMBER: lambda row: with_one(row.get(MEMBER), id, configuration)})


def check_tierings(tierings: list[Mapping[str, Any]]) -> None:
    days = {tiering["AccessTier"]: tiering["Days"] for tiering in tierings}
    if not tierings or len(days) != len(tierings):
        raise malformed_xml()
    for tier, count in days.items():
        if not LEAST_DAYS[tier] <= count <= MOST_DAYS:
            raise invalid_argument(f"'Days' for {tier} must be between {LEAST_DAYS[tier]} and {MOST_DAYS}", "Days", count)
    if len(days) == 2 and days["DEEP_ARCHIVE_ACCESS"] <= days["ARCHIVE_ACCESS"]:
        raise invalid_request("'Days' for DEEP_ARCHIVE_ACCESS must be greater than 'Days' for ARCHIVE_ACCESS")


def check_filter(chosen: Mapping[str, Any]) -> None:
    if len(chosen) > 1:
        raise malformed_xml()
    both = chosen.get("And")
    if both is not None and ("Prefix" in both) + len(both.get("Tags") or ()) < 2:
        raise malformed_xml()


@ops
def get_bucket_intelligent_tiering_configuration(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """One configuration.

    Errors: NoSuchConfiguration.
    Source: S3 API Reference, GetBucketIntelligentTieringConfiguration.
    """
    return {"IntelligentTieringConfiguration": find_configuration(ctx, req)}


@ops
def list_bucket_intelligent_tiering_configurations(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Up to 100 configurations, by Id.

    Source: S3 API Reference, ListBucketIntelligentTieringConfigurations.
    """
    held = get_bucket(ctx, req["Bucket"]).value.get(MEMBER) or {}
    token = req.get("ContinuationToken") or ""
    rest = [held[id] for id in sorted(held) if id > token]
    page = rest[:PAGE]
    answer: dict[str, Any] = {"IsTruncated": len(rest) > PAGE, "IntelligentTieringConfigurationList": page}
    if token:
        answer["ContinuationToken"] = token
    if len(rest) > PAGE:
        answer["NextContinuationToken"] = page[-1]["Id"]
    return answer


@ops
def delete_bucket_intelligent_tiering_configuration(ctx: Context, req: Mapping[str, Any]) -> None:
    """Forget a configuration. What is in an archive tier stays there until it is restored.

    Errors: NoSuchConfiguration.
    Source: S3 API Reference, DeleteBucketIntelligentTieringConfiguration.
    """
    find_configuration(ctx, req)
    change_bucket(ctx, req["Bucket"], **{MEMBER: lambda row: without_one(row.get(MEMBER), req["Id"])})


def find_configuration(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    held = get_bucket(ctx, req["Bucket"]).value.get(MEMBER) or {}
    if req["Id"] not in held:
        raise ServiceError("NoSuchConfiguration", "The specified configuration does not exist.", 404)
    found: Mapping[str, Any] = held[req["Id"]]
    return found
