"""Studio's apps: a JupyterLab or Code Editor that runs in a space, from CreateApp to DeleteApp."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import AlreadyExists, Conflict, Invalid, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.sagemaker.job_kind import Record
from pilvi.services.sagemaker.notebook_check import check_role
from pilvi.services.sagemaker.notebook_program import PROGRAMS
from pilvi.services.sagemaker.space import app_type_of
from pilvi.services.sagemaker.studio_check import check_settings, default_spec, find_domain, find_space, missing, role_for, taken
from pilvi.services.sagemaker.studio_fleet import app_key, place_of, studio_of
from pilvi.services.sagemaker.studio_listing import page_of
from pilvi.services.sagemaker.studio_parent import write_below
from pilvi.services.sagemaker.tag import tagging, untagging

ops = Operations()

NOUN = "App"
_INSTANCE = "ml.t3.medium"
_NOT_BUILT = "is not supported by this server yet."


@ops
def create_app(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Start an app in a space: InService when its JupyterLab or Code Editor answers.

    req: DomainId, SpaceName, AppType (JupyterLab, CodeEditor: its space's), AppName (default), ResourceSpec with InstanceType and LifecycleConfigArn, Tags.
    Errors: ResourceNotFound - no such domain, space or lifecycle configuration. ResourceInUse - it is there already.
        ValidationException - there is no role for it, or something is asked for that is not built.
    Source: SageMaker API reference.
    Differs: an app has as much of its instance type as this machine has. JupyterLab and Code Editor only: Canvas, RStudio, TensorBoard and
        Studio Classic (JupyterServer, KernelGateway) are refused. Packages installed in the app last until it is deleted, the
        rest of the home folder stays in the space. RecoveryMode is recorded.
    """
    space = _space_for(ctx, req)
    if req["AppName"] != "default":
        raise Invalid(f"The AppName of a {req['AppType']} app must be default.")
    key = app_key(space["DomainId"], space["SpaceName"], req["AppType"], req["AppName"])
    arn, now = ctx.arn(f"app/{key}"), ctx.clock.now()
    check_settings(ctx, {"ResourceSpec": req.get("ResourceSpec")}, arn)
    role = role_for(ctx, space)
    check_role(ctx, role, arn)
    chosen = {**default_spec(ctx, space, f"{req['AppType']}AppSettings"), **(req.get("ResourceSpec") or {})}
    record = {
        **{name: req[name] for name in ("DomainId", "AppType", "AppName", "RecoveryMode") if req.get(name) is not None},
        "SpaceName": space["SpaceName"],
        "ResourceSpec": {"InstanceType": _INSTANCE, **{name: value for name, value in chosen.items() if value}},
        "AppArn": arn,
        "Status": "Pending",
        "CreationTime": now,
        "_key": key,
        "_role": role,
    }
    studio, rows = studio_of(ctx.cloud), ctx.records(NOUN)
    row = rows.row(key)
    if row is not None and row.value["Status"] not in ("Deleted", "Failed"):
        raise taken(NOUN, arn)
    change = rows.insertion(key, record) if row is None else rows.revision(key, record, row.version)
    try:
        write_below(ctx, [("Space", space["_key"])], change, *(tagging(ctx, arn, req.get("Tags")) or untagging(ctx, arn)))
    except (AlreadyExists, Conflict):
        raise taken(NOUN, arn) from None
    studio.start(place_of(ctx.account, ctx.region, record))
    return {"AppArn": arn}


@ops
def describe_app(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Everything about one app; Deleted ones are told for as long as their space is there.

    Errors: ResourceNotFound - no such app.
    """
    studio_of(ctx.cloud)
    return _found(ctx, req)


@ops
def list_apps(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Apps, a page at a time, filtered by domain and space, sorted by CreationTime.

    Errors: ValidationException - a foreign token.
    """
    studio_of(ctx.cloud)
    page, more = page_of(ctx.records(NOUN).all(), req, NOUN)
    return {"Apps": page, "NextToken": more}


@ops
def delete_app(ctx: Context, req: Mapping[str, Any]) -> None:
    """End an app. The files of its space stay.

    Errors: ResourceNotFound - no such app. ResourceInUse - it is being started, ended, or has been deleted.
    """
    studio = studio_of(ctx.cloud)
    record = _found(ctx, req)

    def moved(value: Record) -> Record:
        if value["Status"] not in ("InService", "Failed"):
            raise ServiceError("ResourceInUse", f"Unable to delete App [{value['AppArn']}] in status {value['Status']}.")
        return {**value, "Status": "Deleting", "FailureReason": None}

    ctx.records(NOUN).update(record["_key"], moved)
    studio.stop(place_of(ctx.account, ctx.region, record))


def _space_for(ctx: Context, req: Mapping[str, Any]) -> Record:
    """The space that a new app is to run in."""
    find_domain(ctx, req["DomainId"])
    if req["AppType"] not in PROGRAMS:
        raise Invalid(f"AppType {req['AppType']} {_NOT_BUILT}")
    if not req.get("SpaceName"):
        raise Invalid(f"An app of type {req['AppType']} runs in a space: please give a SpaceName.")
    if req.get("UserProfileName"):
        raise Invalid("UserProfileName and SpaceName cannot be given together.")
    space = find_space(ctx, req["DomainId"], req["SpaceName"])
    if app_type_of(space) != req["AppType"]:
        raise Invalid(f"The Space [{space['SpaceArn']}] is for apps of type {app_type_of(space)}.")
    return space


def _found(ctx: Context, req: Mapping[str, Any]) -> Record:
    key = app_key(req["DomainId"], req.get("SpaceName") or req.get("UserProfileName") or "", req["AppType"], req["AppName"])
    record = ctx.records(NOUN).find(key)
    if record is None:
        raise missing(NOUN, key)
    return record
