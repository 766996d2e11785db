"""Spaces: a home folder each, in which a Studio app runs, with another instance type every time if need be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pilvi.core.errors import AlreadyExists, Invalid
from pilvi.core.service import Context, Operations
from pilvi.services.sagemaker.job_kind import Record
from pilvi.services.sagemaker.notebook_program import JUPYTER, PROGRAMS
from pilvi.services.sagemaker.notebook_volume import STUDIO, Volume, releasing
from pilvi.services.sagemaker.studio_check import (
    check_settings,
    find_domain,
    find_space,
    find_user,
    in_use,
    merged,
    storage_for,
    taken,
)
from pilvi.services.sagemaker.studio_fleet import studio_of
from pilvi.services.sagemaker.studio_listing import page_of
from pilvi.services.sagemaker.studio_parent import delete_parent, write_below
from pilvi.services.sagemaker.tag import tagging, untagging
from pilvi.storage.records import Change

ops = Operations()

NOUN = "Space"


@ops
def create_space(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make a space. It is InService at once; an app is started in it with CreateApp.

    req: DomainId, SpaceName (1-63), OwnershipSettings with OwnerUserProfileName, SpaceSharingSettings with SharingType (Private,
        Shared), SpaceSettings with AppType (JupyterLab, CodeEditor), JupyterLabAppSettings, CodeEditorAppSettings and SpaceStorageSettings, SpaceDisplayName, Tags.
    Errors: ResourceNotFound - no such domain or owner. ResourceInUse - the name is taken. ValidationException - ownership and sharing
        do not come together, or something is asked for that is not built.
    Differs: the size of the storage, repositories to suggest and times of idleness are recorded.
    """
    domain = find_domain(ctx, req["DomainId"])["DomainId"]
    key = f"{domain}/{req['SpaceName']}".lower()
    arn, now = ctx.arn(f"space/{key}"), ctx.clock.now()
    owner, sharing = req.get("OwnershipSettings"), req.get("SpaceSharingSettings")
    if bool(owner) != bool(sharing):
        raise Invalid("OwnershipSettings and SpaceSharingSettings must be given together.")
    if owner:
        find_user(ctx, domain, owner["OwnerUserProfileName"])
    settings = _checked(ctx, req.get("SpaceSettings"), arn, storage_for(ctx, domain, (owner or {}).get("OwnerUserProfileName")))
    record = {
        **{name: value for name, value in req.items() if name != "Tags" and value is not None},
        "SpaceSettings": settings,
        # A space without an owner is everybody's, as spaces were before they had owners.
        "SpaceSharingSettings": sharing or {"SharingType": "Shared"},
        "SpaceArn": arn,
        "Status": "InService",
        "CreationTime": now,
        "LastModifiedTime": now,
        "_key": key,
        "_id": ctx.ids.lower(20),
        "_archive": None,
    }
    parents = [("Domain", domain)]
    if owner:
        parents.append(("UserProfile", f"{domain}/{owner['OwnerUserProfileName']}".lower()))
    try:
        write_below(ctx, parents, ctx.records(NOUN).insertion(key, record), *tagging(ctx, arn, req.get("Tags")))
    except AlreadyExists:
        raise taken(NOUN, arn) from None
    return {"SpaceArn": arn}


@ops
def describe_space(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Everything about one space.

    Errors: ResourceNotFound - no such domain or space.
    """
    find_domain(ctx, req["DomainId"])
    return find_space(ctx, req["DomainId"], req["SpaceName"])


@ops
def list_spaces(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Spaces, a page at a time, filtered by domain and name, sorted by CreationTime or LastModifiedTime.

    Errors: ValidationException - a foreign token.
    """
    page, more = page_of(ctx.records(NOUN).all(), req, NOUN)
    return {"Spaces": [_summary(record) for record in page], "NextToken": more}


@ops
def update_space(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Change a space; its app has it from its next start. The files stay.

    req: SpaceSettings (its AppType does not change, its storage only grows), SpaceDisplayName.
    Errors: ResourceNotFound - no such space. ResourceInUse - its app is there. ValidationException - as for CreateSpace.
    """
    record = find_space(ctx, req["DomainId"], req["SpaceName"])
    if _has_apps(ctx, record):
        raise in_use_now(record)
    settings = merged(record["SpaceSettings"], req.get("SpaceSettings"))
    if settings.get("AppType") != record["SpaceSettings"].get("AppType") and record["SpaceSettings"].get("AppType"):
        raise Invalid("The AppType of a space cannot be changed.")
    if _size_of(settings) < _size_of(record["SpaceSettings"]):
        raise Invalid("The storage of a space can only be increased.")
    owner = (record.get("OwnershipSettings") or {}).get("OwnerUserProfileName")
    settings = _checked(ctx, settings, record["SpaceArn"], storage_for(ctx, record["DomainId"], owner))

    def changed(value: Record) -> Record:
        name = req.get("SpaceDisplayName") or value.get("SpaceDisplayName")
        return {**value, "SpaceSettings": settings, "SpaceDisplayName": name, "LastModifiedTime": ctx.clock.now()}

    ctx.records(NOUN).update(record["_key"], changed)
    return {"SpaceArn": record["SpaceArn"]}


@ops
def delete_space(ctx: Context, req: Mapping[str, Any]) -> None:
    """Forget a space and its files.

    Errors: ResourceNotFound - no such space. ResourceInUse - its app has not been deleted.
    """
    studio_of(ctx.cloud)

    def check_free(record: Record) -> None:
        if _has_apps(ctx, record):
            raise in_use(NOUN, record["SpaceArn"], "App")

    def with_it(record: Record) -> Iterator[Change]:
        for app in [app for app in ctx.records("App").all() if _is_in(app, record)]:
            yield ctx.records("App").deletion(app["_key"])
            yield from untagging(ctx, app["AppArn"])
        yield from untagging(ctx, record["SpaceArn"])
        yield from releasing(record["_archive"])

    key = find_space(ctx, req["DomainId"], req["SpaceName"])["_key"]
    record = delete_parent(ctx, NOUN, key, check_free, with_it)
    volume = Volume(ctx.cloud, record["_id"], STUDIO)
    volume.drop_files()
    volume.drop_archive(record["_archive"])


def app_type_of(record: Record) -> str:
    """What runs in a space: one app at a time has its files. Spaces that do not say are JupyterLab's."""
    return str(record["SpaceSettings"].get("AppType") or JUPYTER.app_type)


def in_use_now(record: Record) -> Invalid:
    return Invalid(f"The Space [{record['SpaceArn']}] cannot be changed while its app is there. Delete the app first.")


def _checked(ctx: Context, settings: Mapping[str, Any] | None, arn: str, storage: Mapping[str, int]) -> dict[str, Any]:
    """Settings with what AWS fills in."""
    found = dict(settings or {})
    kind = found.get("AppType")
    if kind not in (None, *PROGRAMS):
        raise Invalid(f"Spaces for {kind} are not supported by this server yet.")
    if found.get("RemoteAccess") == "ENABLED":
        raise Invalid("RemoteAccess is not supported by this server yet.")
    check_settings(ctx, found, arn)
    if _size_of(found) > storage["most"]:
        raise Invalid(f"The storage of the Space [{arn}] must not be larger than {storage['most']} GB (MaximumEbsVolumeSizeInGb).")
    return {"SpaceStorageSettings": {"EbsStorageSettings": {"EbsVolumeSizeInGb": storage["default"]}}, **found}


def _size_of(settings: Mapping[str, Any]) -> int:
    return int(((settings.get("SpaceStorageSettings") or {}).get("EbsStorageSettings") or {}).get("EbsVolumeSizeInGb") or 0)


def _has_apps(ctx: Context, record: Record) -> bool:
    return any(_is_in(app, record) and app["Status"] != "Deleted" for app in ctx.records("App").all())


def _is_in(app: Record, space: Record) -> bool:
    return bool(f"{app['DomainId']}/{app['SpaceName']}".lower() == space["_key"])


def _summary(record: Record) -> Record:
    settings = record["SpaceSettings"]
    return {
        **record,
        "SpaceSettingsSummary": {name: settings[name] for name in ("AppType", "SpaceStorageSettings") if settings.get(name)},
        "SpaceSharingSettingsSummary": record["SpaceSharingSettings"],
        "OwnershipSettingsSummary": record.get("OwnershipSettings"),
    }
