"""Metrics configurations: whose requests are counted for CloudWatch. What is counted: request_metrics.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.service import Context, Operations
from pilvi.services.s3.configurations import check_filter, find, forget, keep, page

ops = Operations()

MEMBER = "MetricsConfigurations"


@ops
def put_bucket_metrics_configuration(ctx: Context, req: Mapping[str, Any]) -> None:
    """Count the requests to a bucket, or to some of its objects; figures begin with the next request and show in CloudWatch
    within a minute, as AWS/S3 with the dimensions BucketName and FilterId.

    req: Bucket, Id, MetricsConfiguration {Id, Filter {Prefix, Tag, AccessPointArn, And}}.
    Errors: InvalidArgument - two Ids; MalformedXML - a filter of no or several conditions; TooManyConfigurations - beyond 1,000.
    Source: S3 API Reference, PutBucketMetricsConfiguration; S3 User Guide, "CloudWatch metrics configurations".
    Differs: latencies keep three digits; SelectBytesScanned is not told. A server killed while it publishes counts a minute twice.
    """
    configuration = req["MetricsConfiguration"]
    check_filter(configuration.get("Filter"))
    keep(ctx, req, MEMBER, configuration)


@ops
def get_bucket_metrics_configuration(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """One configuration.

    Errors: NoSuchConfiguration.
    Source: S3 API Reference, GetBucketMetricsConfiguration.
    """
    return {"MetricsConfiguration": find(ctx, req, MEMBER)}


@ops
def list_bucket_metrics_configurations(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Up to 100 configurations, by Id.

    Source: S3 API Reference, ListBucketMetricsConfigurations.
    """
    return page(ctx, req, MEMBER, "MetricsConfigurationList")


@ops
def delete_bucket_metrics_configuration(ctx: Context, req: Mapping[str, Any]) -> None:
    """Stop counting. What was counted stays in CloudWatch.

    Errors: NoSuchConfiguration.
    Source: S3 API Reference, DeleteBucketMetricsConfiguration.
    """
    forget(ctx, req, MEMBER)
