"""Inventory configurations: which lists of a bucket's objects are made, how often, and where they go. Making them: inventory_run.py."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.s3.catalog import get_bucket
from pilvi.services.s3.configurations import destination_of, find, forget, keep, page
from pilvi.services.s3.errors import malformed_xml

ops = Operations()

MEMBER = "InventoryConfigurations"
NOT_BUILT = ("ObjectLockEventHoldStatus", "ObjectLockEventHoldDuration")


@ops
def put_bucket_inventory_configuration(ctx: Context, req: Mapping[str, Any]) -> None:
    """Have a list of a bucket's objects made every day or every week, beginning with the next midnight (UTC).

    req: Bucket, Id, InventoryConfiguration {Destination {S3BucketDestination {Bucket, AccountId, Format CSV|ORC|Parquet, Prefix,
    Encryption {SSES3 | SSEKMS {KeyId}}}}, IsEnabled, Filter {Prefix}, IncludedObjectVersions All|Current, OptionalFields,
    Schedule {Frequency Daily|Weekly}}. The destination's policy must let s3.amazonaws.com put objects.
    Errors: InvalidArgument - two Ids, or no ARN; MalformedXML - a field twice, two encryptions; TooManyConfigurations;
    InvalidS3DestinationBucket - not there, in another Region, or another account's than the named one; NotImplemented - fields about
    event holds, or Parquet and ORC where this server has no pyarrow (pip install 'pilvi[select]').
    Differs: a list shows what is there when it is made; the first one comes with the next midnight, files hold 200,000 rows.
    Source: S3 API Reference, PutBucketInventoryConfiguration; S3 User Guide, "Configuring Amazon S3 Inventory".
    """
    configuration = req["InventoryConfiguration"]
    to = configuration["Destination"]["S3BucketDestination"]
    fields = configuration.get("OptionalFields") or []
    if len(set(fields)) < len(fields) or len(to.get("Encryption") or {"SSES3": {}}) != 1:
        raise malformed_xml()
    for field in fields:
        if field in NOT_BUILT:
            raise ServiceError("NotImplemented", f"The inventory field {field} is not built into this cloud yet.", 501)
    if to["Format"] != "CSV" and importlib.util.find_spec("pyarrow") is None:
        raise ServiceError(
            "NotImplemented", f"Inventories in {to['Format']} need pyarrow on this server: pip install 'pilvi[select]'.", 501
        )
    destination_of(ctx, get_bucket(ctx, req["Bucket"]), to["Bucket"], to.get("AccountId"))
    keep(ctx, req, MEMBER, configuration)


@ops
def get_bucket_inventory_configuration(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """One configuration.

    Errors: NoSuchConfiguration.
    Source: S3 API Reference, GetBucketInventoryConfiguration.
    """
    return {"InventoryConfiguration": find(ctx, req, MEMBER)}


@ops
def list_bucket_inventory_configurations(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Up to 100 configurations, by Id.

    Source: S3 API Reference, ListBucketInventoryConfigurations.
    """
    return page(ctx, req, MEMBER, "InventoryConfigurationList")


@ops
def delete_bucket_inventory_configuration(ctx: Context, req: Mapping[str, Any]) -> None:
    """Make no further lists. Those that were made stay.

    Errors: NoSuchConfiguration.
    Source: S3 API Reference, DeleteBucketInventoryConfiguration.
    """
    forget(ctx, req, MEMBER)
