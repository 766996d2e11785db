"""Analytics configurations: whose storage is analysed by class and age, and where the figures go. Making them: analytics_export.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.service import Context, Operations
from pilvi.services.s3.catalog import get_bucket
from pilvi.services.s3.configurations import check_filter, destination_of, find, forget, keep, page

ops = Operations()

MEMBER = "AnalyticsConfigurations"


@ops
def put_bucket_analytics_configuration(ctx: Context, req: Mapping[str, Any]) -> None:
    """Analyse what is read of a bucket, or of some of its objects, by their age; a file of figures is written every day.

    req: Bucket, Id, AnalyticsConfiguration {Id, Filter {Prefix, Tag, And}, StorageClassAnalysis {DataExport {OutputSchemaVersion V_1,
    Destination {S3BucketDestination {Bucket, BucketAccountId, Format CSV, Prefix}}}}}. The destination's policy must let
    s3.amazonaws.com put objects.
    Errors: InvalidArgument - two Ids, or no ARN; MalformedXML - a filter of no or several conditions; TooManyConfigurations;
    InvalidS3DestinationBucket - not there, in another Region, or another account's than the named one.
    Source: S3 API Reference, PutBucketAnalyticsConfiguration; S3 User Guide, "Amazon S3 analytics - Storage Class Analysis".
    Differs: S3 does not publish how it recommends an age; here it is the youngest group, from 30 days on, from which on less is read in
    the observed time than is stored, once 30 days were observed.
    """
    configuration = req["AnalyticsConfiguration"]
    check_filter(configuration.get("Filter"))
    export = configuration["StorageClassAnalysis"].get("DataExport")
    if export is not None:
        to = export["Destination"]["S3BucketDestination"]
        destination_of(ctx, get_bucket(ctx, req["Bucket"]), to["Bucket"], to.get("BucketAccountId"))
    keep(ctx, req, MEMBER, configuration)


@ops
def get_bucket_analytics_configuration(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """One configuration.

    Errors: NoSuchConfiguration.
    Source: S3 API Reference, GetBucketAnalyticsConfiguration.
    """
    return {"AnalyticsConfiguration": find(ctx, req, MEMBER)}


@ops
def list_bucket_analytics_configurations(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Up to 100 configurations, by Id.

    Source: S3 API Reference, ListBucketAnalyticsConfigurations.
    """
    return page(ctx, req, MEMBER, "AnalyticsConfigurationList")


@ops
def delete_bucket_analytics_configuration(ctx: Context, req: Mapping[str, Any]) -> None:
    """Analyse no longer. Files that were written stay.

    Errors: NoSuchConfiguration.
    Source: S3 API Reference, DeleteBucketAnalyticsConfiguration.
    """
    forget(ctx, req, MEMBER)
