"""Studio's lifecycle configurations: a shell script that runs whenever an app starts."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from pilvi.core.arn import Arn
from pilvi.core.errors import AlreadyExists, Invalid, ServiceError, Unavailable
from pilvi.core.service import Context, Operations
from pilvi.services.sagemaker.job_kind import Record, one_page
from pilvi.services.sagemaker.studio_listing import modified
from pilvi.services.sagemaker.tag import tagging, untagging

ops = Operations()

NOUN = "StudioLifecycleConfig"
_NAME, _ARN, _CONTENT = f"{NOUN}Name", f"{NOUN}Arn", f"{NOUN}Content"


@ops
def create_studio_lifecycle_config(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Keep a script under a name that apps can be started with.

    req: StudioLifecycleConfigName, StudioLifecycleConfigContent (base64, at most 16384 characters), StudioLifecycleConfigAppType, Tags.
    Errors: ResourceInUse - the name is taken. ValidationException - the content is not base64.
    Source: SageMaker API reference.
    Differs: a script runs as the app's user, not as root, and has five minutes.
    """
    arn, now = ctx.arn(f"studio-lifecycle-config/{req[_NAME].lower()}"), ctx.clock.now()
    try:
        base64.b64decode(req[_CONTENT], validate=True)
    except binascii.Error as error:
        raise Invalid(f"The content of the lifecycle configuration is not encoded in base64: {error}.") from error
    record = {
        **{key: value for key, value in req.items() if key != "Tags"},
        _ARN: arn,
        "CreationTime": now,
        "LastModifiedTime": now,
    }
    try:
        ctx.write(ctx.records(NOUN).insertion(req[_NAME].lower(), record), *tagging(ctx, arn, req.get("Tags")))
    except AlreadyExists:
        raise AlreadyExists(f"Studio Lifecycle Config [{arn}] already exists.") from None
    return {_ARN: arn}


@ops
def describe_studio_lifecycle_config(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A script and its times.

    Errors: ResourceNotFound - there is none of this name.
    """
    return _found(ctx, req)


@ops
def list_studio_lifecycle_configs(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Configurations, a page at a time, filtered by name, app type and times, sorted by Name, CreationTime or LastModifiedTime.

    Errors: ValidationException - a foreign token.
    """
    found = [record for record in ctx.records(NOUN).all() if req.get("AppTypeEquals") in (None, record[f"{NOUN}AppType"])]
    page, more = one_page(found, modified(req), NOUN, by="CreationTime", order="Descending")
    return {f"{NOUN}s": page, "NextToken": more}


@ops
def delete_studio_lifecycle_config(ctx: Context, req: Mapping[str, Any]) -> None:
    """Forget a configuration.

    Errors: ResourceNotFound - there is none of this name. ResourceInUse - settings of a domain, user profile or space name it.
    """
    record = _found(ctx, req)
    for noun in ("Domain", "UserProfile", "Space"):
        for user in ctx.records(noun).all():
            if _names(user, record[_ARN]):
                raise ServiceError(
                    "ResourceInUse", f"Unable to delete {_ARN} [{record[_ARN]}]: it is attached to [{user[f'{noun}Arn']}]."
                )
    ctx.write(ctx.records(NOUN).deletion(req[_NAME].lower()), *untagging(ctx, record[_ARN]))


def find_by_arn(ctx: Context, arn: str) -> Record | None:
    """The configuration of an ARN of this account and Region."""
    parsed = Arn.parse(arn)
    if parsed is None or (parsed.account, parsed.region) != (ctx.account, ctx.region):
        return None
    return ctx.records(NOUN).find(parsed.resource.partition("/")[2])


def script_of(ctx: Context, arn: str) -> str:
    """The script as text. Unavailable when the configuration has gone."""
    record = find_by_arn(ctx, arn)
    if record is None:
        raise Unavailable(f"The lifecycle configuration {arn} does not exist any more.")
    return base64.b64decode(record[_CONTENT]).decode(errors="replace")


def _names(value: Any, arn: str) -> bool:
    """Whether an ARN stands anywhere in settings."""
    if isinstance(value, Mapping):
        return any(_names(part, arn) for part in value.values())
    if isinstance(value, list):
        return any(_names(part, arn) for part in value)
    return bool(value == arn)


def _found(ctx: Context, req: Mapping[str, Any]) -> Record:
    record = ctx.records(NOUN).find(req[_NAME].lower())
    if record is None:
        raise ServiceError("ResourceNotFound", f"Studio Lifecycle Config [{req[_NAME]}] does not exist.")
    return record
