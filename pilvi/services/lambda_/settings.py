"""A function's settings: what may be asked for, AWS's limits and defaults, and how a record is shown.

A record holds the members of FunctionConfiguration plus private ones:
    _id          of this function, new when a deleted name is created again
    _code        blob of the package ('' for an image);  _unzipped its content's size
    _image       the image as it was named;  _resolved by its digest
    _environment the variables, sealed
    _layers      [{Arn, CodeSize, blob, unzipped}]
    _tags, _reserved (concurrency), _next (version number), _changed (since the last version) - on $LATEST only
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pilvi.core.arn import Arn
from pilvi.core.errors import PilviError, ServiceError
from pilvi.core.service import Access, Context
from pilvi.services.lambda_.destinations import checked_dead_letters
from pilvi.services.lambda_.image_code import check_no_zip_settings, image_config
from pilvi.services.lambda_.languages import check_runtime
from pilvi.services.lambda_.names import LATEST, FunctionRef, failed_constraint, invalid

MEMORY_MIB = (128, 10240)
TIMEOUT_S = (1, 900)
ENVIRONMENT_BYTES = 4096
ENVIRONMENT_CONTEXT = b"lambda-environment"

_RESERVED_KEYS = frozenset(
    {
        "_HANDLER", "_X_AMZN_TRACE_ID", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EXECUTION_ENV", "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR",
    }
)  # fmt: skip
"""Source: Lambda developer guide, "Defined runtime environment variables", reserved ones."""

_PLAIN = ("Runtime", "Role", "Handler", "Description", "Timeout", "MemorySize")
_ABSENT = {
    "VpcConfig": "networks", "FileSystemConfigs": "file systems", "KMSKeyArn": "customer managed keys",
    "CodeSigningConfigArn": "code signing", "TenancyConfig": "tenant isolation",
    "CapacityProviderConfig": "capacity providers", "DurableConfig": "durable executions", "PublishTo": "capacity providers",
}  # fmt: skip


def new_record(ctx: Context, req: Mapping[str, Any], name: str, arn: str) -> dict[str, Any]:
    """The record of a function that does not exist yet, without its code. Everything in `req` has been checked."""
    return {
        "FunctionName": name,
        "FunctionArn": arn,
        "Description": "",
        "Timeout": 3,
        "MemorySize": 128,
        "Version": LATEST,
        "TracingConfig": {"Mode": "PassThrough"},
        "PackageType": req.get("PackageType") or "Zip",
        "Architectures": list(req.get("Architectures") or ["x86_64"]),
        "EphemeralStorage": {"Size": 512},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}"},
        "State": "Active",
        "_id": ctx.ids.uuid(),
        "_environment": None,
        "_layers": [],
        "_tags": dict(req.get("Tags") or {}),
        "_reserved": None,
        "_next": 1,
    }


def apply_settings(ctx: Context, record: dict[str, Any], req: Mapping[str, Any]) -> None:
    """Check what `req` sets (the rest stays) and put it into the record. Layers are the caller's part."""
    _refuse_absent(req)
    _check_limits(req)
    if "Runtime" in req:
        check_runtime(req["Runtime"])
    for member in _PLAIN:
        if req.get(member) is not None:
            record[member] = req[member]
    if record["PackageType"] == "Image":
        check_no_zip_settings(req)
        if req.get("ImageConfig") is not None:
            record.pop("ImageConfigResponse", None)
            record |= {"ImageConfigResponse": config} if (config := image_config(req)) else {}
    elif is_set(req.get("ImageConfig")):
        raise invalid("ImageConfig is only for functions created with container images.")
    if req.get("EphemeralStorage"):
        record["EphemeralStorage"] = {"Size": req["EphemeralStorage"]["Size"]}
    if req.get("LoggingConfig"):
        record["LoggingConfig"] = {**record["LoggingConfig"], **req["LoggingConfig"]}
        if record["LoggingConfig"]["LogFormat"] == "JSON":
            record["LoggingConfig"] = {"ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO", **record["LoggingConfig"]}
    if req.get("Environment") is not None:
        variables = dict(req["Environment"].get("Variables") or {})
        check_variables(variables)
        record["_environment"] = ctx.keyring.seal(json.dumps(variables).encode(), ENVIRONMENT_CONTEXT) if variables else None
    if "Role" in req:
        check_role(ctx, record)
    if req.get("DeadLetterConfig") is not None:
        ref = FunctionRef(ctx.account, ctx.region, record["FunctionName"], "")
        config = checked_dead_letters(ctx, ref, record["Role"], req["DeadLetterConfig"])
        record.pop("DeadLetterConfig", None)
        record |= {"DeadLetterConfig": config} if config else {}


def touch(ctx: Context, record: dict[str, Any]) -> None:
    """Mark a change: a new revision, now."""
    record["RevisionId"] = ctx.ids.uuid()
    record["LastModified"] = iso(ctx.clock.now())
    record["LastUpdateStatus"] = "Successful"
    record["_changed"] = True


def iso(now: datetime) -> str:
    """The form of LastModified: 2026-01-31T12:00:00.000+0000."""
    return f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03d}+0000"


def shown(ctx: Context, record: Mapping[str, Any], arn: str = "") -> dict[str, Any]:
    """FunctionConfiguration, under the ARN it was asked for by."""
    out = {key: value for key, value in record.items() if not key.startswith("_")}
    if arn:
        out["FunctionArn"] = arn
    if record["_environment"] is not None:
        out["Environment"] = {"Variables": variables_of(ctx, record)}
    if record["_layers"]:
        out["Layers"] = [{"Arn": layer["Arn"], "CodeSize": layer["CodeSize"]} for layer in record["_layers"]]
    return out


def listed(ctx: Context, record: Mapping[str, Any], arn: str = "") -> dict[str, Any]:
    """The subset that lists give. Source: Lambda API reference, ListFunctions."""
    out = shown(ctx, record, arn)
    for member in ("State", "LastUpdateStatus", "RuntimeVersionConfig"):
        out.pop(member, None)
    return out


def variables_of(ctx: Context, record: Mapping[str, Any]) -> dict[str, str]:
    sealed = record["_environment"]
    return {} if sealed is None else dict(json.loads(ctx.keyring.unseal(sealed, ENVIRONMENT_CONTEXT)))


def check_variables(variables: Mapping[str, str]) -> None:
    if taken := sorted(_RESERVED_KEYS & variables.keys()):
        raise invalid(
            "Lambda was unable to configure your environment variables because the environment variables you have provided contains "
            f"reserved keys that are currently not supported for modification. Reserved keys used in this request: {', '.join(taken)}"
        )
    measured = json.dumps(variables, separators=(",", ":"), ensure_ascii=False)
    if len(measured.encode()) > ENVIRONMENT_BYTES:
        raise invalid(
            "Lambda was unable to configure your environment variables because the environment variables you have provided exceeded "
            f"the 4KB limit. String measured: {measured}"
        )


def check_role(ctx: Context, record: Mapping[str, Any]) -> None:
    """The caller may pass the role, and Lambda may assume it."""
    role = record["Role"]
    parsed = Arn.parse(role)
    if parsed is None or parsed.account != ctx.account:
        raise ServiceError("AccessDeniedException", "Cross-account pass role is not allowed.", 403)
    ctx.authorize(Access("iam:PassRole", role, context={"iam:PassedToService": "lambda.amazonaws.com"}))
    try:
        ctx.as_service("lambda.amazonaws.com", source_arn=record["FunctionArn"]).as_role(role, record["FunctionName"][:64])
    except PilviError as error:
        raise invalid("The role defined for the function cannot be assumed by Lambda.") from error


def _check_limits(req: Mapping[str, Any]) -> None:
    """Limits of zip functions that are tighter than the model's. Source: Lambda quotas."""
    for member, (low, high) in (("Timeout", TIMEOUT_S), ("MemorySize", MEMORY_MIB)):
        value = req.get(member)
        if value is not None and value > high:
            raise failed_constraint(value, member, f"Member must have value less than or equal to {high}")
        if value is not None and value < low:
            raise failed_constraint(value, member, f"Member must have value greater than or equal to {low}")


def _refuse_absent(req: Mapping[str, Any]) -> None:
    """What would be kept but mean nothing here is refused; empty forms, which turn the feature off, are fine."""
    for member, what in _ABSENT.items():
        if is_set(req.get(member)):
            raise invalid(f"{member}: {what} are not available in this cloud.")
    if (req.get("TracingConfig") or {}).get("Mode") == "Active":
        raise invalid("TracingConfig: active tracing is not available in this cloud.")
    if (req.get("SnapStart") or {}).get("ApplyOn", "None") != "None":
        raise invalid("SnapStart: snapshots are not available in this cloud.")


def is_set(value: object) -> bool:
    """Whether anything is asked for: {"SubnetIds": []} and "" are not."""
    if isinstance(value, Mapping):
        return any(is_set(inner) for inner in value.values())
    return bool(value)
