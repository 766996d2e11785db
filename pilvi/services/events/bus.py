"""Event buses: the default one, which every account has, and its own.

Source: EventBridge API reference, CreateEventBus, DescribeEventBus, ListEventBuses, UpdateEventBus, DeleteEventBus.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from pilvi.core.arn import Arn
from pilvi.core.errors import AlreadyExists, PilviError, ServiceError
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Context, Operations
from pilvi.services.events.buses import DEFAULT, Bus, Place, find_bus, place_of, rows_of
from pilvi.services.events.errors import already, bad_parameter, invalid, no_bus, too_many
from pilvi.services.events.tags import checked_tags
from pilvi.storage.records import Insert

ops = Operations()

MOST: Final = 100
_SETTINGS: Final = ("Description", "KmsKeyIdentifier", "DeadLetterConfig", "LogConfig")


@ops
def create_event_bus(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make a bus of one's own.

    req: Name (1-256, not default, no slash), Description, KmsKeyIdentifier, DeadLetterConfig (of events that its key cannot seal), Tags.
    Errors: ResourceAlreadyExistsException. LimitExceededException - 100. ValidationException - the key or the queue is none.
    Differs: partner buses (EventSourceName) and logs of buses (LogConfig) are refused.
    """
    name = req["Name"]
    if req.get("EventSourceName"):
        raise ServiceError("NotImplemented", "Partner event sources are not built into this cloud yet.", 501)
    if name == DEFAULT:
        raise already(f"Event bus {name}")
    if "/" in name:
        raise invalid("Event bus name must not contain '/'.")
    settings = checked_settings(ctx, req)
    rows = rows_of(ctx, "Bus")
    if len(rows.scan(limit=MOST + 1)) >= MOST and rows.find(name) is None:
        raise too_many()
    now = ctx.clock.now()
    value = {**settings, "Name": name, "CreationTime": now, "LastModifiedTime": now, "_tags": checked_tags({}, req.get("Tags"))}
    try:
        ctx.write(Insert(rows.table, name, value))
    except AlreadyExists:
        raise already(f"Event bus {name}") from None
    return {"EventBusArn": Place(ctx.account, ctx.region, name).arn, **settings}


@ops
def describe_event_bus(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A bus, with its policy.

    Errors: ResourceNotFoundException.
    """
    return shown(find_bus(ctx, req.get("Name")))


@ops
def list_event_buses(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Buses by name, up to 100 a page; NamePrefix narrows."""
    prefix, limit = req.get("NamePrefix") or "", req.get("Limit") or 100
    after = decode_token(req.get("NextToken"))
    rows = rows_of(ctx, "Bus").scan(prefix=prefix, after=after, limit=limit + 1)
    names = [row.id for row in rows]
    if DEFAULT.startswith(prefix) and DEFAULT not in names and after < DEFAULT:
        names = sorted([*names, DEFAULT])
    found = [shown(find_bus(ctx, name)) for name in names[:limit]]
    return {"EventBuses": found, "NextToken": encode_token(names[limit - 1]) if len(names) > limit else None}


@ops
def update_event_bus(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give a bus other settings; what is not named is taken away.

    Errors: ResourceNotFoundException. ValidationException - the key or the queue is none.
    """
    bus = find_bus(ctx, req.get("Name"))
    settings = checked_settings(ctx, req)
    changed(ctx, bus.place, lambda value: {name: one for name, one in value.items() if name not in _SETTINGS} | settings)
    return {"Arn": bus.place.arn, "Name": bus.place.name, **settings}


@ops
def delete_event_bus(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove a bus of one's own. One that is not there is no error.

    Errors: ValidationException - the default bus, or it has rules.
    """
    place = place_of(ctx, req["Name"])
    if place.name == DEFAULT:
        raise invalid("Cannot delete event bus default.")
    if rows_of(ctx, "Rule").scan(prefix=f"{place.name}\0", limit=1):
        raise invalid(f"Event bus {place.name} can't be deleted since it has rules.")
    rows = rows_of(ctx, "Bus")
    if (row := rows.row(place.name)) is not None:
        ctx.write(rows.deletion(place.name, row.version))


# -- helpers ------------------------------------------------------------------------------------------------------------------


def shown(bus: Bus) -> dict[str, Any]:
    return {"Name": bus.place.name, "Arn": bus.place.arn, **bus.value}


def changed(ctx: Context, place: Place, change: Any) -> dict[str, Any]:
    """Read, change, write a bus; the default one gets its row when it first has something to keep."""
    rows = ctx.records("Bus", account=place.account, region=place.region, service="eventbridge")
    now = ctx.clock.now()
    if place.name == DEFAULT and rows.row(DEFAULT) is None:
        value = {"Name": DEFAULT, "CreationTime": now, "_tags": {}}
        with suppress(AlreadyExists):
            ctx.write(Insert(rows.table, DEFAULT, value))
    if rows.row(place.name) is None:
        raise no_bus(place.name)
    found: dict[str, Any] = rows.update(place.name, lambda value: {**change(value), "LastModifiedTime": now})
    return found


def checked_settings(ctx: Context, req: Mapping[str, Any]) -> dict[str, Any]:
    """What may be set of a bus; its key and its queue are looked at."""
    if (req.get("LogConfig") or {}).get("Level", "OFF") != "OFF":
        raise ServiceError("NotImplemented", "Logs of event buses are not built into this cloud yet.", 501)
    if key := req.get("KmsKeyIdentifier"):
        check_key(ctx, key)
    if queue := (req.get("DeadLetterConfig") or {}).get("Arn"):
        check_dead_letters(queue)
    return {name: req[name] for name in _SETTINGS if req.get(name)}


def check_key(ctx: Context, key: str) -> None:
    """The caller can see the key, and it can seal."""
    try:
        found = ctx.call("kms", "DescribeKey", KeyId=key)["KeyMetadata"]
    except PilviError as error:
        raise bad_parameter("KmsKeyIdentifier", error.message) from error
    if found["KeyState"] != "Enabled" or found.get("KeySpec", "SYMMETRIC_DEFAULT") != "SYMMETRIC_DEFAULT":
        raise bad_parameter("KmsKeyIdentifier", f"The key {key} is not an enabled symmetric encryption key.")


def check_dead_letters(arn: str) -> None:
    parsed = Arn.parse(arn)
    if parsed is None or parsed.service != "sqs" or not parsed.resource:
        raise bad_parameter("DeadLetterConfig.Arn", "Provided Arn is not an Amazon SQS queue.")
    if parsed.resource.endswith(".fifo"):
        raise bad_parameter("DeadLetterConfig.Arn", "FIFO queues cannot be dead-letter queues.")
