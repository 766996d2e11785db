"""Layers: numbered packages that functions see merged under /opt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pilvi.core.errors import AlreadyExists, Conflict, NotFound
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Access, Context, Operations
from pilvi.services.lambda_.download import location_of
from pilvi.services.lambda_.names import LayerRef, invalid, layer_ref, not_found, version_id
from pilvi.services.lambda_.package import UNZIPPED_BYTES, keep_package
from pilvi.services.lambda_.settings import iso
from pilvi.storage.records import Change, DeleteBody, Expect, PutBody, Rows

if TYPE_CHECKING:
    from types_boto3_lambda import type_defs as t

ops = Operations()

LAYERS = 5
"""Layers of one function. Source: Lambda quotas, "Function layers"."""

_SHOWN = (
    "LayerVersionArn",
    "Version",
    "Description",
    "CreatedDate",
    "CompatibleRuntimes",
    "LicenseInfo",
    "CompatibleArchitectures",
)


@ops
def publish_layer_version(ctx: Context, req: t.PublishLayerVersionRequestTypeDef) -> Mapping[str, Any]:
    """Keep a zip as the next version of a layer.

    req: LayerName, Content (ZipFile up to 50 MB, or S3Bucket and S3Key; 250 MB unzipped), Description, CompatibleRuntimes,
    CompatibleArchitectures, LicenseInfo.
    Errors: InvalidParameterValueException - no zip, too large; AccessDeniedException - the caller may not read the object.
    Source: Lambda API reference, PublishLayerVersion.
    """
    ref = layer_ref(ctx, req["LayerName"])
    package = keep_package(ctx, req["Content"], "PublishLayerVersion")
    record = {
        "LayerArn": ref.arn,
        "Description": req.get("Description", ""),
        "CreatedDate": iso(ctx.clock.now()),
        "_size": package.size,
        "_sha256": package.sha256,
        "_code": package.blob,
        "_unzipped": package.unzipped,
        "_deleted": False,
    }
    for member in ("CompatibleRuntimes", "LicenseInfo", "CompatibleArchitectures"):
        if req.get(member):
            record[member] = req[member]
    while True:
        row = ctx.records("Layer").row(ref.name)
        number = row.value["_next"] if row else 1
        record |= {"Version": number, "LayerVersionArn": f"{ref.arn}:{number}"}
        counter: Change = (
            ctx.records("Layer").revision(ref.name, {"_next": number + 1}, row.version)
            if row
            else ctx.records("Layer").insertion(ref.name, {"_next": 2})
        )
        with suppress(Conflict, AlreadyExists):
            insertion = ctx.records("LayerVersion").insertion(version_id(ref.name, str(number)), record)
            ctx.write(counter, insertion, PutBody(package.blob, None))
            return detailed(ctx, record)


@ops
def get_layer_version(ctx: Context, req: t.GetLayerVersionRequestTypeDef) -> Mapping[str, Any]:
    """One version, with a link to its content.

    Errors: ResourceNotFoundException - "The resource you requested does not exist."
    Differs: Content.Location is served by this server, for 10 minutes, instead of by S3.
    """
    return detailed(ctx, find_layer(ctx, layer_ref(ctx, req["LayerName"], req["VersionNumber"])))


@ops
def get_layer_version_by_arn(ctx: Context, req: t.GetLayerVersionByArnRequestTypeDef) -> Mapping[str, Any]:
    """One version by its ARN."""
    ref = layer_ref(ctx, req["Arn"])
    if not ref.version:
        raise invalid(f"Invalid layer version ARN: {req['Arn']}")
    return detailed(ctx, find_layer(ctx, ref))


@ops
def list_layer_versions(ctx: Context, req: t.ListLayerVersionsRequestTypeDef) -> Mapping[str, Any]:
    """The versions of a layer, newest first; nothing for an unknown layer."""
    ref = layer_ref(ctx, req["LayerName"])
    rows = layer_versions(ctx, ref)
    chosen = [row for row in reversed(rows) if _fits(row, req)]
    page, marker = _page([(f"{10**12 - row['Version']:013d}", row) for row in chosen], req)
    return {"LayerVersions": [_summary(row) for row in page], "NextMarker": marker}


@ops
def list_layers(ctx: Context, req: t.ListLayersRequestTypeDef) -> Mapping[str, Any]:
    """Every layer with its newest version."""
    found: list[tuple[str, Any]] = []
    for row in _names(ctx.records("Layer")):
        ref = layer_ref(ctx, row)
        fitting = [version for version in layer_versions(ctx, ref) if _fits(version, req)]
        if fitting:
            found.append((row, {"LayerName": row, "LayerArn": ref.arn, "LatestMatchingVersion": _summary(fitting[-1])}))
    page, marker = _page(found, req)
    return {"Layers": page, "NextMarker": marker}


@ops
def delete_layer_version(ctx: Context, req: t.DeleteLayerVersionRequestTypeDef) -> None:
    """Take a version away from new functions; those that use it keep it. Nothing happens when it is not there.

    Source: Lambda API reference, DeleteLayerVersion.
    """
    ref = layer_ref(ctx, req["LayerName"], req["VersionNumber"])
    versions = ctx.records("LayerVersion", account=ref.account)
    with suppress(NotFound):
        versions.update(version_id(ref.name, str(ref.version)), lambda record: {**record, "_deleted": True})
    with suppress(NotFound):
        ctx.records("LayerPolicy", account=ref.account).delete(version_id(ref.name, str(ref.version)))
    collect_deleted(ctx, [ref.version_arn])


def find_layer(ctx: Context, ref: LayerRef) -> dict[str, Any]:
    record = ctx.records("LayerVersion", account=ref.account, region=ref.region).find(version_id(ref.name, str(ref.version)))
    if record is None or record["_deleted"]:
        raise not_found("The resource you requested does not exist.")
    return record


def layer_versions(ctx: Context, ref: LayerRef) -> list[dict[str, Any]]:
    """Oldest first."""
    return [row for row in ctx.records("LayerVersion", account=ref.account).all(prefix=f"{ref.name}/") if not row["_deleted"]]


def attach(ctx: Context, arns: Sequence[str], code_unzipped: int) -> tuple[list[dict[str, Any]], list[Change]]:
    """What a function keeps of its layers, and what must still hold when it is written.

    Errors: InvalidParameterValueException - more than five, two versions of one layer, unknown, too large together;
    AccessDeniedException - a layer of another account that its policy does not share.
    """
    if len(arns) > LAYERS:
        raise invalid(f"Cannot reference more than {LAYERS} layers.")
    refs = [layer_ref(ctx, arn) for arn in arns]
    _refuse_twins(refs)
    kept: list[dict[str, Any]] = []
    guards: list[Change] = []
    for ref in refs:
        rows = ctx.records("LayerVersion", account=ref.account, region=ref.region)
        row = rows.row(version_id(ref.name, str(ref.version)))
        if row is None or row.value["_deleted"] or not ref.version:
            raise invalid(f"Layer version {ref.version_arn} does not exist.")
        ctx.authorize(Access("lambda:GetLayerVersion", ref.version_arn, layer_policy(ctx, ref), ref.account))
        record = row.value
        kept.append({"Arn": ref.version_arn, "CodeSize": record["_size"], "blob": record["_code"], "unzipped": record["_unzipped"]})
        guards.append(Expect(rows.table, row.id, row.version))
    total = code_unzipped + sum(layer["unzipped"] for layer in kept)
    if total > UNZIPPED_BYTES:
        raise invalid(
            f"Function code combined with layers exceeds the maximum allowed size of {UNZIPPED_BYTES} bytes. The actual size is {total} bytes."
        )
    return kept, guards


def layer_policy(ctx: Context, ref: LayerRef) -> dict[str, Any] | None:
    """The policy document of a version, or None."""
    found = ctx.records("LayerPolicy", account=ref.account, region=ref.region).find(version_id(ref.name, str(ref.version)))
    return found["Policy"] if found else None


def collect_deleted(ctx: Context, arns: Sequence[str]) -> None:
    """Remove deleted layer versions among `arns` that no function of any account uses any more."""
    if not arns:
        return
    used = {layer["Arn"] for record in _all_functions(ctx) for layer in record["_layers"]}
    for arn in set(arns) - used:
        ref = layer_ref(ctx, arn)
        rows = ctx.records("LayerVersion", account=ref.account, region=ref.region)
        row = rows.row(version_id(ref.name, str(ref.version)))
        if row is not None and row.value["_deleted"]:
            with suppress(NotFound, Conflict):
                ctx.write(rows.deletion(row.id, row.version), DeleteBody(row.value["_code"]))
                ctx.blobs.delete(row.value["_code"])


def detailed(ctx: Context, record: Mapping[str, Any]) -> dict[str, Any]:
    content = {"CodeSize": record["_size"], "CodeSha256": record["_sha256"], "Location": location_of(ctx, record["_code"])}
    return {**record, "Content": content}


def _all_functions(ctx: Context) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for noun in ("Function", "Version"):
        for table in ctx.store.tables(service="lambda", noun=noun):
            if table.region == ctx.region:
                found += Rows(ctx.store, table).all()
    return found


def _refuse_twins(refs: Sequence[LayerRef]) -> None:
    seen: dict[str, LayerRef] = {}
    for ref in refs:
        if (twin := seen.get(ref.arn)) is not None:
            raise invalid(
                "Two different versions of the same layer are not allowed to be referenced in the same function. "
                f"{twin.version_arn} and {ref.version_arn} are versions of the same layer."
            )
        seen[ref.arn] = ref


def _fits(record: Mapping[str, Any], req: Mapping[str, Any]) -> bool:
    runtime, architecture = req.get("CompatibleRuntime"), req.get("CompatibleArchitecture")
    return (runtime is None or runtime in record.get("CompatibleRuntimes", ())) and (
        architecture is None or architecture in record.get("CompatibleArchitectures", ())
    )


def _summary(record: Mapping[str, Any]) -> dict[str, Any]:
    return {member: record[member] for member in _SHOWN if member in record}


def _names(rows: Rows) -> list[str]:
    found: list[str] = []
    after = ""
    while page := rows.scan(after=after):
        found += [row.id for row in page]
        after = page[-1].id
    return found


def _page(keyed: Sequence[tuple[str, Any]], req: Mapping[str, Any]) -> tuple[list[Any], str | None]:
    """One page of (sort key, item), which are in order of their keys."""
    after, limit = decode_token(req.get("Marker")), min(req.get("MaxItems") or 50, 50)
    rest = [(key, item) for key, item in keyed if key > after]
    more = encode_token(rest[limit - 1][0]) if len(rest) > limit else None
    return [item for _, item in rest[:limit]], more
