"""Functions: code and settings under a name. What runs them is `pool`'s business."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pilvi.core.errors import AlreadyExists, Conflict
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Context, Operations
from pilvi.services.lambda_.download import location_of
from pilvi.services.lambda_.engine import retire_workers
from pilvi.services.lambda_.image_code import code_of_image, image_package
from pilvi.services.lambda_.layer import attach, collect_deleted
from pilvi.services.lambda_.names import (
    LATEST,
    FunctionRef,
    conflict,
    failed_constraint,
    function_not_found,
    function_ref,
    invalid,
    stale_revision,
    version_id,
)
from pilvi.services.lambda_.package import UNZIPPED_BYTES, Package, kept_package
from pilvi.services.lambda_.settings import apply_settings, listed, new_record, shown, touch
from pilvi.services.lambda_.version import find_version, publish, versions_of
from pilvi.storage.records import Change, DeleteBody, PutBody

if TYPE_CHECKING:
    from types_boto3_lambda import type_defs as t

ops = Operations()

NAME_LENGTH = 64


@ops
def create_function(ctx: Context, req: t.CreateFunctionRequestTypeDef) -> Mapping[str, Any]:
    """Create a function, ready to be invoked when the call returns.

    req: FunctionName (64 of [a-zA-Z0-9-_]), Role, Runtime and Handler, Code (ZipFile to 50 MB, or S3Bucket and S3Key; 250 MB
    unzipped with layers; or PackageType Image and ImageUri, in ECR), Timeout 1-900 s, MemorySize 128-10240 MB, Environment (4 KB), Layers (5), Publish, Tags, ...
    Errors: InvalidParameterValueException - no Handler or Runtime, no zip, a role Lambda cannot assume, reserved variables;
    ResourceConflictException - the name is taken; AccessDeniedException - the caller may not pass the role or read the code.
    Source: Lambda API reference, CreateFunction.
    Differs: every python3.x and nodejs runtime runs on the one interpreter of its environment (lambda-python, lambda-node), whatever the
    architecture asked for, and Node brings no AWS SDK; provided runtimes see this machine's system; Java, .NET and Ruby, networks, tracing
    and snapshots are refused; State is Active at once;
    EphemeralStorage is kept, but /tmp holds 512 MB; code and environment variables are sealed at rest, the unpacked working
    copy of a function that runs is not.
    """
    ref = function_ref(ctx, {"FunctionName": req["FunctionName"]})
    if ref.account != ctx.account:
        raise function_not_found(ref)
    if len(ref.name) > NAME_LENGTH:
        raise failed_constraint(ref.name, "functionName", f"Member must have length less than or equal to {NAME_LENGTH}")
    if ref.version_or_alias:
        raise invalid("The function name must not have a qualifier.")
    record = new_record(ctx, req, ref.name, ref.arn)
    if req.get("PackageType", "Zip") == "Zip" and not (req.get("Runtime") and req.get("Handler")):  # of custom runtimes too
        raise invalid("Runtime and Handler are mandatory parameters for functions created with deployment packages.")
    if ctx.records("Function").find(ref.name) is not None:
        raise conflict(f"Function already exist: {ref.name}")
    apply_settings(ctx, record, req)
    with _given_code(ctx, ref, record, req["Code"], "CreateFunction") as (package, more):
        set_code(record, package, more)
        record["_layers"], guards = attach(ctx, req.get("Layers") or (), package.unzipped)
        touch(ctx, record)
        answer, changes = record, [*guards, *_claim(package)]
        if req.get("Publish"):
            published = publish(ctx, record, None)
            assert published is not None
            record, answer = published[0], published[1]
            changes += published[2]
        try:
            ctx.write(ctx.records("Function").insertion(ref.name, record), *changes)
        except AlreadyExists as error:
            raise conflict(f"Function already exist: {ref.name}") from error
    return shown(ctx, answer)


@ops
def get_function(ctx: Context, req: t.GetFunctionRequestTypeDef) -> Mapping[str, Any]:
    """Settings, tags, reserved concurrency, and a link to the code.

    Errors: ResourceNotFoundException - "Function not found: ARN".
    Differs: Code.Location is served by this server, for 10 minutes, instead of by S3.
    """
    ref = function_ref(ctx, req)
    record = find_version(ctx, ref)
    latest = record if record["Version"] == LATEST else ctx.records("Function", account=ref.account).get(ref.name)
    out: dict[str, Any] = {
        "Configuration": shown(ctx, record, ref.qualified_arn),
        "Code": _code_of(ctx, record),
    }
    if latest["_tags"] and not ref.version_or_alias:
        out["Tags"] = latest["_tags"]
    if latest["_reserved"] is not None and not ref.version_or_alias:
        out["Concurrency"] = {"ReservedConcurrentExecutions": latest["_reserved"]}
    return out


@ops
def get_function_configuration(ctx: Context, req: t.GetFunctionConfigurationRequestTypeDef) -> Mapping[str, Any]:
    """Settings of $LATEST, a version, or the version of an alias."""
    ref = function_ref(ctx, req)
    return shown(ctx, find_version(ctx, ref), ref.qualified_arn)


@ops
def list_functions(ctx: Context, req: t.ListFunctionsRequestTypeDef) -> Mapping[str, Any]:
    """Functions by name, at most 50 a page; with FunctionVersion=ALL their versions too.

    Source: Lambda API reference, ListFunctions.
    """
    after, limit = decode_token(req.get("Marker")), min(req.get("MaxItems") or 50, 50)
    if req.get("FunctionVersion") == "ALL":
        return _list_with_versions(ctx, after, limit)
    rows = ctx.records("Function").scan(after=after, limit=limit + 1)
    out: dict[str, Any] = {"Functions": [listed(ctx, row.value) for row in rows[:limit]]}
    if len(rows) > limit:
        out["NextMarker"] = encode_token(rows[limit - 1].id)
    return out


@ops
def update_function_code(ctx: Context, req: t.UpdateFunctionCodeRequestTypeDef) -> Mapping[str, Any]:
    """Give $LATEST other code; new invocations run it, those under way finish on the old.

    req: ZipFile, or S3Bucket and S3Key; Publish; DryRun (check, change nothing); RevisionId; Architectures.
    Errors: as CreateFunction; PreconditionFailedException - RevisionId is not the latest.
    """
    ref = own_function(ctx, req)
    with _given_code(ctx, ref, find_version(ctx, ref._replace(qualifier="")), req, "UpdateFunctionCode") as (package, more):
        if req.get("DryRun"):
            record = find_version(ctx, ref)
            if package.blob:
                ctx.blobs.delete(package.blob)
            return shown(ctx, {**record, "CodeSha256": package.sha256, "CodeSize": package.size})

        def change(record: dict[str, Any]) -> list[Change]:
            _check_total(package.unzipped, record)
            old = record["_code"]
            set_code(record, package, more)
            if req.get("Architectures"):
                record["Architectures"] = list(req["Architectures"])
            return [*_claim(package), *_forget([old], ctx, ref, keep=package.blob)]

        return _revise(ctx, ref, req, change, publish_it=bool(req.get("Publish")))


@ops
def update_function_configuration(ctx: Context, req: t.UpdateFunctionConfigurationRequestTypeDef) -> Mapping[str, Any]:
    """Change settings of $LATEST; what is not given stays.

    Errors: as CreateFunction; PreconditionFailedException - RevisionId is not the latest.
    """
    ref = own_function(ctx, req)
    loosened: list[str] = []

    def change(record: dict[str, Any]) -> list[Change]:
        apply_settings(ctx, record, req)
        if req.get("Layers") is None:
            return []
        loosened[:] = [layer["Arn"] for layer in record["_layers"]]
        record["_layers"], guards = attach(ctx, req["Layers"], record["_unzipped"])
        return guards

    answer = _revise(ctx, ref, req, change)
    collect_deleted(ctx, loosened)
    return answer


@ops
def delete_function(ctx: Context, req: t.DeleteFunctionRequestTypeDef) -> Mapping[str, Any]:
    """Delete a function with all its versions, aliases and permissions, or (Qualifier) one version. Its workers end.

    Errors: ResourceNotFoundException; ResourceConflictException - an alias needs the version;
    InvalidParameterValueException - Qualifier is $LATEST or an alias.
    """
    ref = own_function(ctx, req)
    if ref.qualifier == LATEST:
        raise invalid("$LATEST version cannot be deleted without deleting the function.")
    if ref.qualifier:
        _delete_version(ctx, ref)
    else:
        _delete_all(ctx, ref)
    return {"StatusCode": 204}


def own_function(ctx: Context, req: Mapping[str, Any]) -> FunctionRef:
    """The function `req` names, which must exist."""
    ref = function_ref(ctx, req)
    if ctx.records("Function", account=ref.account).find(ref.name) is None:
        raise function_not_found(ref)
    return ref


def set_code(record: dict[str, Any], package: Package, more: Mapping[str, Any]) -> None:
    code = {"CodeSize": package.size, "CodeSha256": package.sha256, "_code": package.blob, "_unzipped": package.unzipped}
    record |= {**code, **more}


@contextmanager
def _given_code(
    ctx: Context, ref: FunctionRef, record: Mapping[str, Any], given: Mapping[str, Any], operation: str
) -> Iterator[tuple[Package, dict[str, Any]]]:
    """What a function is to run, of the kind that it is; kept until the block has claimed it."""
    is_image = record["PackageType"] == "Image"
    if is_image and not given.get("ImageUri"):
        raise invalid("Please provide ImageUri when updating a function with packageType Image.")
    if given.get("ImageUri") and not is_image:
        raise invalid("Please don't provide ImageUri when updating a function with packageType Zip.")
    if is_image:
        yield image_package(ctx, ref, given["ImageUri"])
        return
    with kept_package(ctx, given, operation) as package:
        yield package, {}


def _claim(package: Package) -> list[Change]:
    return [PutBody(package.blob, None)] if package.blob else []


def _code_of(ctx: Context, record: Mapping[str, Any]) -> dict[str, Any]:
    if record["PackageType"] == "Image":
        return code_of_image(record)
    return {"RepositoryType": "S3", "Location": location_of(ctx, record["_code"])}


def _revise(ctx: Context, ref: FunctionRef, req: Mapping[str, Any], change: Any, *, publish_it: bool = False) -> dict[str, Any]:
    """Read $LATEST, let `change` edit it, write it as a new revision; again when somebody else was faster."""
    at = ctx if ref.account == ctx.account else ctx.at(ref.account, ref.region)
    functions = at.records("Function")
    while True:
        row = functions.row(ref.name)
        if row is None:
            raise function_not_found(ref)
        record = row.value
        if req.get("RevisionId") not in (None, record["RevisionId"]):
            raise stale_revision()
        changes = change(record)
        touch(at, record)
        answer = record
        if publish_it and (published := publish(at, record, None)) is not None:
            record, answer = published[0], published[1]
            changes = [*changes, *published[2]]
        try:
            at.write(functions.revision(ref.name, record, row.version), *changes)
        except Conflict:
            continue
        for item in changes:
            if isinstance(item, DeleteBody):
                at.blobs.delete(item.name)
        retire_workers(ctx.cloud, ref.arn, LATEST)
        return shown(at, answer)


def _check_total(unzipped: int, record: Mapping[str, Any]) -> None:
    total = unzipped + sum(layer["unzipped"] for layer in record["_layers"])
    if total > UNZIPPED_BYTES:
        raise invalid(
            f"Function code combined with layers exceeds the maximum allowed size of {UNZIPPED_BYTES} bytes. The actual size is {total} bytes."
        )


def _forget(blobs: list[str], ctx: Context, ref: FunctionRef, *, keep: str = "", but: str = "") -> list[Change]:
    """Changes that drop packages no remaining version needs. `but`: the version about to go."""
    at = ctx if ref.account == ctx.account else ctx.at(ref.account, ref.region)
    needed = {version["_code"] for version in versions_of(at, ref.name) if version["Version"] != but} | {keep}
    return [DeleteBody(blob) for blob in dict.fromkeys(blobs) if blob and blob not in needed]


def _delete_version(ctx: Context, ref: FunctionRef) -> None:
    at = ctx if ref.account == ctx.account else ctx.at(ref.account, ref.region)
    if not ref.qualifier.isdigit():
        raise invalid("Deletion of aliases is not currently supported.")
    aliases = [
        alias
        for alias in at.records("Alias").all(prefix=f"{ref.name}/")
        if ref.qualifier in (alias["FunctionVersion"], *alias.get("RoutingConfig", {}).get("AdditionalVersionWeights", {}))
    ]
    if aliases:
        names = ", ".join(alias["AliasArn"] for alias in aliases)
        raise conflict(f"Version {ref.qualifier} cannot be deleted because it is referenced by the alias(es): {names}")
    while True:
        latest, row = at.records("Function").row(ref.name), at.records("Version").row(version_id(ref.name, ref.qualifier))
        if latest is None or row is None:
            return
        changes = _forget([row.value["_code"]], ctx, ref, keep=latest.value["_code"], but=ref.qualifier)
        for noun in ("Policy", "EventInvokeConfig", "ProvisionedConcurrency"):
            rows = at.records(noun)
            if rows.find(f"{ref.name}/{ref.qualifier}") is not None:
                changes.append(rows.deletion(f"{ref.name}/{ref.qualifier}"))
        try:
            # The function's row is written too, so that a version being published from the same package makes this try again.
            same = at.records("Function").revision(ref.name, latest.value, latest.version)
            at.write(same, at.records("Version").deletion(row.id, row.version), *changes)
        except Conflict:
            continue
        _finish_deletion(ctx, [row.value], changes)
        retire_workers(ctx.cloud, ref.arn, ref.qualifier)
        return


def _delete_all(ctx: Context, ref: FunctionRef) -> None:
    at = ctx if ref.account == ctx.account else ctx.at(ref.account, ref.region)
    while True:
        latest = at.records("Function").row(ref.name)
        if latest is None:
            return
        versions = versions_of(at, ref.name)
        blobs = dict.fromkeys(record["_code"] for record in (latest.value, *versions))
        changes: list[Change] = [DeleteBody(blob) for blob in blobs if blob]
        for noun in ("Version", "Alias", "Policy", "EventInvokeConfig", "FunctionUrl", "ProvisionedConcurrency"):
            rows = at.records(noun)
            found = rows.scan(prefix=f"{ref.name}/", limit=100_000)
            changes += [rows.deletion(row.id) for row in found]
            if noun == "FunctionUrl":
                ids = at.records("FunctionUrlId", account="", region="")
                changes += [ids.deletion(row.value["_url_id"]) for row in found]
        try:
            at.write(at.records("Function").deletion(ref.name, latest.version), *changes)
        except Conflict:
            continue
        _finish_deletion(ctx, [latest.value, *versions], changes)
        retire_workers(ctx.cloud, ref.arn)
        return


def _finish_deletion(ctx: Context, records: list[dict[str, Any]], changes: list[Change]) -> None:
    for item in changes:
        if isinstance(item, DeleteBody):
            ctx.blobs.delete(item.name)
    collect_deleted(ctx, [layer["Arn"] for record in records for layer in record["_layers"]])


def _list_with_versions(ctx: Context, after: str, limit: int) -> dict[str, Any]:
    """Position: `name` after its $LATEST, `name/000000000001` after that version."""
    name, _, number = after.partition("/")
    found: list[dict[str, Any]] = []
    position = after
    if name and ctx.records("Function").find(name) is not None:
        for row in ctx.records("Version").scan(prefix=f"{name}/", after=after if number else f"{name}/", limit=limit):
            found.append(listed(ctx, row.value))
            position = row.id
    while len(found) <= limit:
        rows = ctx.records("Function").scan(after=name, limit=1)
        if not rows:
            break
        name = rows[0].id
        found.append(listed(ctx, rows[0].value, f"{rows[0].value['FunctionArn']}:{LATEST}"))
        found += [listed(ctx, row.value) for row in ctx.records("Version").scan(prefix=f"{name}/", limit=limit)]
    if len(found) <= limit:
        return {"Functions": found}
    last = found[limit - 1]
    version = last["Version"]
    position = last["FunctionName"] if version == LATEST else version_id(last["FunctionName"], version)
    return {"Functions": found[:limit], "NextMarker": encode_token(position)}
