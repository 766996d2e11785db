"""Archives: what came to a bus, kept to be replayed.

Source: EventBridge API reference, CreateArchive, DescribeArchive, ListArchives, UpdateArchive, DeleteArchive.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pilvi.core.arn import Arn
from pilvi.core.errors import AlreadyExists, NotFound
from pilvi.core.service import Context, Operations
from pilvi.services.events.archiving import counted
from pilvi.services.events.bus import check_key
from pilvi.services.events.buses import Place, find_bus, rows_of
from pilvi.services.events.connection import page_of
from pilvi.services.events.errors import already, bad_parameter, invalid, no_archive, too_many
from pilvi.services.events.rule import understood
from pilvi.storage.records import Insert

ops = Operations()

MOST: Final = 100
_SETTINGS: Final = ("Description", "EventPattern", "RetentionDays", "KmsKeyIdentifier")


@ops
def create_archive(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Keep the events of a bus from now on, but for replayed ones.

    req: ArchiveName, EventSourceArn (a bus of this account), EventPattern (what to keep), RetentionDays (0: for ever), Description,
    KmsKeyIdentifier (seals the events; its policy must let events.amazonaws.com make and open data keys for the bus).
    Errors: ResourceNotFoundException - the bus. ResourceAlreadyExistsException, InvalidEventPatternException, LimitExceededException.
    Differs: no managed rule appears on the bus.
    """
    place = bus_of(ctx, req["EventSourceArn"])
    check(ctx, req)
    rows = rows_of(ctx, "Archive")
    if len(rows.scan(limit=MOST)) >= MOST and rows.find(req["ArchiveName"]) is None:
        raise too_many()
    value = {
        "ArchiveName": req["ArchiveName"],
        "EventSourceArn": place.arn,
        "RetentionDays": 0,
        **{name: req[name] for name in _SETTINGS if req.get(name) is not None},
        "State": "ENABLED",
        "CreationTime": ctx.clock.now(),
        "_uid": ctx.ids.hex(32),
    }
    try:
        ctx.write(Insert(rows.table, req["ArchiveName"], value))
    except AlreadyExists:
        raise already(f"Archive {req['ArchiveName']}") from None
    return brief(ctx, value)


@ops
def describe_archive(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """An archive, with how many events it holds and their size.

    Errors: ResourceNotFoundException.
    """
    value = find_archive(ctx, req["ArchiveName"])
    return {**shown(ctx, value), "ArchiveArn": arn_of(ctx, value["ArchiveName"])}


@ops
def list_archives(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Archives by name, up to 100 a page; one of NamePrefix, EventSourceArn and State narrows.

    Errors: ValidationException - more than one of them. ResourceNotFoundException - the bus.
    """
    if sum(1 for name in ("NamePrefix", "EventSourceArn", "State") if req.get(name)) > 1:
        raise invalid("At most one filter is allowed for ListArchives. Use either : State, EventSourceArn, or NamePrefix.")
    source = bus_of(ctx, req["EventSourceArn"]).arn if req.get("EventSourceArn") else None
    found, token = page_of(
        ctx,
        "Archive",
        req,
        lambda one: source in (None, one["EventSourceArn"]) and req.get("State") in (None, one["State"]),
    )
    listed = [
        {name: one for name, one in shown(ctx, value).items() if name not in ("Description", "EventPattern")} for value in found
    ]
    return {"Archives": listed, "NextToken": token}


@ops
def update_archive(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Change what is kept from now on, and how long.

    Errors: ResourceNotFoundException, InvalidEventPatternException. ValidationException - nothing to change.
    """
    given = {name: req[name] for name in _SETTINGS if req.get(name) is not None}
    if not given:
        raise invalid("At least one of EventPattern, RetentionDays or Description must be provided.")
    check(ctx, req)
    try:
        return brief(ctx, rows_of(ctx, "Archive").update(req["ArchiveName"], lambda value: value | given))
    except NotFound:
        raise no_archive(req["ArchiveName"]) from None


@ops
def delete_archive(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove an archive and its events.

    Errors: ResourceNotFoundException.
    """
    try:
        rows_of(ctx, "Archive").delete(req["ArchiveName"])
    except NotFound:
        raise no_archive(req["ArchiveName"]) from None


# -- helpers ------------------------------------------------------------------------------------------------------------------


def bus_of(ctx: Context, arn: str) -> Place:
    """The bus of this account and Region that an ARN names."""
    parsed = Arn.parse(arn)
    if parsed is None or not parsed.resource.startswith("event-bus/"):
        raise bad_parameter("EventSourceArn", "Must contain an event bus ARN.")
    place = find_bus(ctx, arn).place
    if place.account != ctx.account:
        raise bad_parameter("EventSourceArn", "The event bus belongs to another account.")
    return place


def check(ctx: Context, req: Mapping[str, Any]) -> None:
    if req.get("EventPattern"):
        understood(req["EventPattern"])
    if req.get("KmsKeyIdentifier"):
        check_key(ctx, req["KmsKeyIdentifier"])


def find_archive(ctx: Context, name: str) -> dict[str, Any]:
    found = rows_of(ctx, "Archive").find(name)
    if found is None:
        raise no_archive(name)
    return found


def arn_of(ctx: Context, name: str) -> str:
    return ctx.arn(f"archive/{name}", service="events")


def shown(ctx: Context, value: Mapping[str, Any]) -> dict[str, Any]:
    count = counted(ctx.cloud, ctx.account, ctx.region, value["_uid"])
    return {**value, "EventCount": count.many, "SizeBytes": count.size_bytes}


def brief(ctx: Context, value: Mapping[str, Any]) -> dict[str, Any]:
    return {"ArchiveArn": arn_of(ctx, value["ArchiveName"]), "State": value["State"], "CreationTime": value["CreationTime"]}
