"""Storage Lens configurations: dashboards of an account's storage, and their daily exports. Making those: storage_lens_export.py.

Every account has one that it did not make: default-account-dashboard, in us-east-1, without export.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pilvi.core.arn import partition_of
from pilvi.core.errors import Invalid, NotFound, ServiceError
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Access, Context, Operations
from pilvi.services.s3control.access import RULES
from pilvi.services.s3control.errors import invalid_request, not_implemented
from pilvi.services.s3control.tags import checked_tags
from pilvi.storage.records import Rows

ops = Operations()

DEFAULT, DEFAULT_HOME = "default-account-dashboard", "us-east-1"
LIMIT = 20
PAGE = 100
TAGS = 50
NOUN = "StorageLens"


@ops
def put_storage_lens_configuration(ctx: Context, req: Mapping[str, Any]) -> None:
    """Make or change a dashboard over the account's buckets; with DataExport a file of its figures is written every day.

    req: AccountId, ConfigId, StorageLensConfiguration {Id, AccountLevel {BucketLevel}, IsEnabled, Include | Exclude {Buckets,
    Regions}, DataExport {S3BucketDestination {AccountId, Arn, Format CSV, OutputSchemaVersion V_1, Prefix, Encryption}}}, Tags (50).
    The destination's policy must let storage-lens.s3.amazonaws.com put objects.
    Errors: InvalidRequest - two Ids, Include beside Exclude, tags for the default dashboard; TooManyConfigurations - beyond 20 in a
    Region; NotImplemented - metrics of requests, prefixes, groups and the advanced ones, organizations, Parquet, CloudWatch, tables.
    Source: S3 Control API Reference, PutStorageLensConfiguration; S3 User Guide, "Amazon S3 Storage Lens".
    Differs: there is no console that draws dashboards; exports tell the metrics of storage and of what protects it.
    """
    id, configuration = req["ConfigId"], dict(req["StorageLensConfiguration"])
    if configuration["Id"] != id:
        raise invalid_request("The ConfigId of the request does not match the Id of the configuration.")
    if "Include" in configuration and "Exclude" in configuration:
        raise invalid_request("Include and Exclude cannot be used together.")
    check_built(configuration)
    tags = checked_tags(req.get("Tags"), TAGS)
    if id == DEFAULT and (tags or ctx.region != DEFAULT_HOME):
        raise invalid_request("The default dashboard has no tags, and its home is us-east-1.")
    rows = lenses(ctx)
    held = rows.find(id)
    if held is None and len(rows.scan(limit=LIMIT + 1)) >= LIMIT:
        raise ServiceError(
            "TooManyConfigurations", "You have attempted to create more Storage Lens configurations than your account allows.", 400
        )
    configuration["StorageLensArn"] = arn_of(ctx, id)
    rows.put(id, {"configuration": configuration, "tags": tags if "Tags" in req else (held or {}).get("tags", [])})


def check_built(configuration: Mapping[str, Any]) -> None:
    """Errors: NotImplemented - what is asked for and not there."""
    account = configuration["AccountLevel"]
    for level in (account, account["BucketLevel"]):
        for name in (
            "ActivityMetrics",
            "AdvancedCostOptimizationMetrics",
            "AdvancedDataProtectionMetrics",
            "DetailedStatusCodesMetrics",
            "AdvancedPerformanceMetrics",
        ):
            if (level.get(name) or {}).get("IsEnabled"):
                raise not_implemented(f"{name} of Storage Lens")
    prefixes = account["BucketLevel"].get("PrefixLevel")
    if prefixes is not None and prefixes["StorageMetrics"].get("IsEnabled"):
        raise not_implemented("PrefixLevel of Storage Lens")
    for name in ("AwsOrg", "ExpandedPrefixesDataExport"):
        if name in configuration:
            raise not_implemented(f"{name} of Storage Lens")
    if "StorageLensGroupLevel" in account:
        raise not_implemented("StorageLensGroupLevel of Storage Lens")
    export = configuration.get("DataExport") or {}
    for name in ("CloudWatchMetrics", "StorageLensTableDestination"):
        if (export.get(name) or {}).get("IsEnabled"):
            raise not_implemented(f"{name} of Storage Lens")
    to = export.get("S3BucketDestination") or {}
    if to.get("Format") == "Parquet":
        raise not_implemented("The format Parquet of Storage Lens")
    if to and not str(to["Arn"]).partition(":::")[2]:
        raise invalid_request("The destination is not the ARN of a bucket.")


@ops
def get_storage_lens_configuration(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """One dashboard.

    Errors: NoSuchConfiguration.
    Source: S3 Control API Reference, GetStorageLensConfiguration.
    """
    return {"StorageLensConfiguration": find_lens(ctx, req["ConfigId"])["configuration"]}


@ops
def list_storage_lens_configurations(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The account's dashboards whose home is this Region.

    Errors: InvalidRequest - a foreign token.
    Source: S3 Control API Reference, ListStorageLensConfigurations.
    """
    try:
        after = decode_token(req.get("NextToken"))
    except Invalid:
        raise invalid_request("The continuation token provided is incorrect") from None
    found = [lens["configuration"] for lens in all_lenses(ctx) if lens["configuration"]["Id"] > after]
    listed = [
        {"Id": one["Id"], "StorageLensArn": one["StorageLensArn"], "HomeRegion": ctx.region, "IsEnabled": one["IsEnabled"]}
        for one in found[:PAGE]
    ]
    answer: dict[str, Any] = {"StorageLensConfigurationList": listed}
    if len(found) > PAGE:
        answer["NextToken"] = encode_token(listed[-1]["Id"])
    return answer


@ops
def delete_storage_lens_configuration(ctx: Context, req: Mapping[str, Any]) -> None:
    """Take a dashboard away. What it exported stays.

    Errors: NoSuchConfiguration; InvalidRequest - the default dashboard, which can only be disabled.
    Source: S3 Control API Reference, DeleteStorageLensConfiguration.
    """
    if req["ConfigId"] == DEFAULT:
        raise invalid_request("The default dashboard cannot be deleted; it can be disabled.")
    try:
        lenses(ctx).delete(req["ConfigId"])
    except NotFound:
        raise no_such_lens() from None


@ops
def put_storage_lens_configuration_tagging(ctx: Context, req: Mapping[str, Any]) -> None:
    """Replace a dashboard's tags.

    Errors: NoSuchConfiguration; TooManyTagsException, InvalidTag; InvalidRequest - the default dashboard.
    Source: S3 Control API Reference, PutStorageLensConfigurationTagging.
    """
    if req["ConfigId"] == DEFAULT:
        raise invalid_request("The default dashboard has no tags.")
    tags = checked_tags(req["Tags"], TAGS)
    try:
        lenses(ctx).update(req["ConfigId"], lambda lens: {**lens, "tags": tags})
    except NotFound:
        raise no_such_lens() from None


@ops
def get_storage_lens_configuration_tagging(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A dashboard's tags.

    Errors: NoSuchConfiguration.
    Source: S3 Control API Reference, GetStorageLensConfigurationTagging.
    """
    return {"Tags": find_lens(ctx, req["ConfigId"])["tags"]}


@ops
def delete_storage_lens_configuration_tagging(ctx: Context, req: Mapping[str, Any]) -> None:
    """Take a dashboard's tags away.

    Errors: NoSuchConfiguration; InvalidRequest - the default dashboard.
    Source: S3 Control API Reference, DeleteStorageLensConfigurationTagging.
    """
    put_storage_lens_configuration_tagging(ctx, {**req, "Tags": []})


# -- rows -----------------------------------------------------------------------------------------------------------------


def lenses(ctx: Context) -> Rows:
    return ctx.records(NOUN, service="s3control")


def default_lens(ctx: Context) -> dict[str, Any]:
    configuration = {
        "Id": DEFAULT,
        "StorageLensArn": arn_of(ctx, DEFAULT),
        "AccountLevel": {"BucketLevel": {}},
        "IsEnabled": True,
    }
    return {"configuration": configuration, "tags": []}


def all_lenses(ctx: Context) -> Iterator[dict[str, Any]]:
    """By their Ids, the default one among them."""
    held = {lens["configuration"]["Id"]: lens for lens in lenses(ctx).all()}
    if ctx.region == DEFAULT_HOME:
        held.setdefault(DEFAULT, default_lens(ctx))
    return (held[id] for id in sorted(held))


def find_lens(ctx: Context, id: str) -> dict[str, Any]:
    found = lenses(ctx).find(id)
    if found is None and id == DEFAULT and ctx.region == DEFAULT_HOME:
        found = default_lens(ctx)
    if found is None:
        raise no_such_lens()
    return found


def no_such_lens() -> ServiceError:
    return ServiceError("NoSuchConfiguration", "The specified configuration does not exist.", 404)


def arn_of(ctx: Context, id: str) -> str:
    return f"arn:{partition_of(ctx.region)}:s3:{ctx.region}:{ctx.account}:storage-lens/{id}"


# -- permissions ----------------------------------------------------------------------------------------------------------


def lens_rule(action: str) -> Any:
    return lambda ctx, req: (Access(action, arn_of(ctx, req["ConfigId"])),)


RULES.update(
    {
        f"{verb}StorageLensConfiguration{what}": lens_rule(f"s3:{verb}StorageLensConfiguration{what}")
        for verb in ("Put", "Get", "Delete")
        for what in ("", "Tagging")
    }
)
