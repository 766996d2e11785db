"""App image configurations: how a custom image wants to be run in Studio. Records, as on AWS: they run nothing themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import AlreadyExists, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.sagemaker.job_kind import Record, one_page
from pilvi.services.sagemaker.studio_listing import modified
from pilvi.services.sagemaker.tag import tagging, untagging

ops = Operations()

NOUN = "AppImageConfig"
_NAME, _ARN = f"{NOUN}Name", f"{NOUN}Arn"
_KINDS = ("KernelGatewayImageConfig", "JupyterLabAppImageConfig", "CodeEditorAppImageConfig")


@ops.recording
def create_app_image_config(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Keep the configuration of an image.

    req: AppImageConfigName, one of KernelGatewayImageConfig, JupyterLabAppImageConfig, CodeEditorAppImageConfig, Tags.
    Errors: ResourceInUse - the name is taken.
    Source: SageMaker API reference.
    """
    arn, now = ctx.arn(f"app-image-config/{req[_NAME].lower()}"), ctx.clock.now()
    record = {
        **{key: value for key, value in req.items() if key != "Tags"},
        _ARN: arn,
        "CreationTime": now,
        "LastModifiedTime": now,
    }
    try:
        ctx.write(ctx.records(NOUN).insertion(req[_NAME].lower(), record), *tagging(ctx, arn, req.get("Tags")))
    except AlreadyExists:
        raise AlreadyExists(f"AppImageConfig [{arn}] already exists.") from None
    return {_ARN: arn}


@ops
def describe_app_image_config(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """One configuration.

    Errors: ResourceNotFound - there is none of this name.
    """
    return _found(ctx, req)


@ops
def list_app_image_configs(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Configurations, a page at a time, filtered by name and times, sorted by Name, CreationTime or LastModifiedTime.

    Errors: ValidationException - a foreign token.
    """
    page, more = one_page(ctx.records(NOUN).all(), modified(req), NOUN, by="CreationTime", order="Descending")
    return {f"{NOUN}s": page, "NextToken": more}


@ops.recording
def update_app_image_config(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Replace what a configuration says of a kind of app.

    Errors: ResourceNotFound - there is none of this name.
    """
    record = _found(ctx, req)
    kept = {kind: req[kind] for kind in _KINDS if req.get(kind) is not None}
    ctx.records(NOUN).update(req[_NAME].lower(), lambda value: {**value, **kept, "LastModifiedTime": ctx.clock.now()})
    return {_ARN: record[_ARN]}


@ops
def delete_app_image_config(ctx: Context, req: Mapping[str, Any]) -> None:
    """Forget a configuration.

    Errors: ResourceNotFound - there is none of this name.
    """
    record = _found(ctx, req)
    ctx.write(ctx.records(NOUN).deletion(req[_NAME].lower()), *untagging(ctx, record[_ARN]))


def _found(ctx: Context, req: Mapping[str, Any]) -> Record:
    record = ctx.records(NOUN).find(req[_NAME].lower())
    if record is None:
        raise ServiceError("ResourceNotFound", f"AppImageConfig [{req[_NAME]}] does not exist.")
    return record
