"""Lifecycle configurations: shell scripts that run when a notebook instance is made, and whenever it starts."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import AlreadyExists, Invalid
from pilvi.core.service import Context, Operations
from pilvi.services.sagemaker.job_kind import Record, one_page
from pilvi.services.sagemaker.tag import tagging, untagging

ops = Operations()

NOUN = "NotebookInstanceLifecycleConfig"
_NAME = f"{NOUN}Name"
HOOKS = ("OnCreate", "OnStart")
"""In the order in which they run."""


@ops
def create_notebook_instance_lifecycle_config(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Keep scripts under a name that notebook instances can be made with.

    req: NotebookInstanceLifecycleConfigName, OnCreate and OnStart (one script each, base64, at most 16384 characters), Tags.
    Errors: ValidationException - the name is taken, a script is not base64.
    Source: SageMaker API reference; messages as users of AWS report them.
    Differs: scripts run as the notebook's user, not as root: there is no sudo. What they install with pip is there in the kernels.
        A script's own processes end with it.
    """
    name, arn = req[_NAME], arn_of(ctx, req[_NAME])
    _check_scripts(req)
    now = ctx.clock.now()
    record = {**{key: req[key] for key in (_NAME, *HOOKS) if req.get(key)}, f"{NOUN}Arn": arn}
    record |= {"CreationTime": now, "LastModifiedTime": now}
    try:
        ctx.write(ctx.records(NOUN).insertion(name.lower(), record), *tagging(ctx, arn, req.get("Tags")))
    except AlreadyExists:
        raise Invalid(f"Unable to create Notebook Instance Lifecycle Config {arn}. (Details: {_SPOKEN} already exists.)") from None
    return {f"{NOUN}Arn": arn}


@ops
def describe_notebook_instance_lifecycle_config(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The scripts of a configuration.

    Errors: ValidationException - there is none of this name.
    """
    return _found(ctx, req, "describe")


@ops
def list_notebook_instance_lifecycle_configs(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Configurations, a page at a time, filtered by name and times, sorted by Name, CreationTime or LastModifiedTime.

    Errors: ValidationException - a foreign token.
    """
    page, more = one_page(ctx.records(NOUN).all(), req, NOUN, by="Name", order="Ascending")
    return {f"{NOUN}s": page, "NextToken": more}


@ops
def update_notebook_instance_lifecycle_config(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Replace scripts; instances have them from their next start.

    Errors: ValidationException - there is none of this name, a script is not base64.
    """
    _found(ctx, req, "update")
    _check_scripts(req)
    kept = {key: req[key] for key in HOOKS if req.get(key) is not None}
    ctx.records(NOUN).update(req[_NAME].lower(), lambda value: {**value, **kept, "LastModifiedTime": ctx.clock.now()})
    return {}


@ops
def delete_notebook_instance_lifecycle_config(ctx: Context, req: Mapping[str, Any]) -> None:
    """Forget a configuration.

    Errors: ValidationException - there is none of this name, or a notebook instance has it.
    """
    record = _found(ctx, req, "delete")
    users = [instance for instance in ctx.records("NotebookInstance").all() if instance.get(_NAME) == record[_NAME]]
    if users:
        raise Invalid(
            f"Unable to delete {_SPOKEN} '{record[f'{NOUN}Arn']}'. "
            f"(Details: it is associated with Notebook Instance {users[0]['NotebookInstanceArn']}.)"
        )
    ctx.write(ctx.records(NOUN).deletion(req[_NAME].lower()), *untagging(ctx, record[f"{NOUN}Arn"]))


_SPOKEN = "Notebook Instance Lifecycle Config"


def arn_of(ctx: Context, name: str) -> str:
    return ctx.arn(f"notebook-instance-lifecycle-config/{name.lower()}")


def script_of(record: Record | None, hook: str) -> str:
    """The script of a hook as text, '' when there is none."""
    found = (record or {}).get(hook) or ()
    return base64.b64decode(found[0]["Content"]).decode(errors="replace") if found and found[0].get("Content") else ""


def _check_scripts(req: Mapping[str, Any]) -> None:
    for hook in HOOKS:
        for entry in req.get(hook) or ():
            try:
                base64.b64decode(entry.get("Content") or "", validate=True)
            except binascii.Error as error:
                raise Invalid(f"The content of {hook} is not encoded in base64: {error}.") from error


def _found(ctx: Context, req: Mapping[str, Any], verb: str) -> Record:
    record = ctx.records(NOUN).find(req[_NAME].lower())
    if record is None:
        raise Invalid(f"Unable to {verb} {_SPOKEN} '{arn_of(ctx, req[_NAME])}'. (Details: {_SPOKEN} does not exist.)")
    return record
