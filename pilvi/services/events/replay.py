"""Replays: events of an archive, once more on their bus. What is done about them: replaying.py.

Source: EventBridge API reference, StartReplay, DescribeReplay, ListReplays, CancelReplay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pilvi.core.errors import AlreadyExists, Conflict, ServiceError
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Context, Operations
from pilvi.services.events import replaying
from pilvi.services.events.archive import find_archive
from pilvi.services.events.buses import DATA, find_bus
from pilvi.services.events.errors import already, bad_parameter, busy, invalid, no_replay, too_many
from pilvi.services.events.rule import place_and_name
from pilvi.storage.records import Insert, Rows, Update

ops = Operations()

MOST_AT_WORK: Final = 10
"""Of an account and Region. Source: EventBridge quotas."""
AT_WORK: Final = ("STARTING", "RUNNING", "CANCELLING")


@ops
def start_replay(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Send events of an archive to its bus again; they carry `replay-name`.

    req: ReplayName, EventSourceArn (the archive), EventStartTime, EventEndTime, Destination (Arn: the bus; FilterArns: only these rules),
    Description.
    Errors: ResourceNotFoundException - the bus. ResourceAlreadyExistsException. LimitExceededException - ten at work.
    ValidationException - another bus, times in no order.
    """
    name = req["EventSourceArn"].partition(":archive/")[2]
    if not name:
        raise bad_parameter("EventSourceArn", "Must contain an archive ARN.")
    try:
        archive = find_archive(ctx, name)
    except ServiceError as error:
        raise bad_parameter("EventSourceArn", error.message) from error
    if req["EventStartTime"] >= req["EventEndTime"]:
        raise bad_parameter("EventEndTime", "EventStartTime must be before EventEndTime.")
    if req["Destination"]["Arn"] != archive["EventSourceArn"]:
        find_bus(ctx, req["Destination"]["Arn"])
        raise bad_parameter("Destination.Arn", "Cross event bus replay is not permitted.")
    for arn in req["Destination"].get("FilterArns") or ():
        if place_and_name(arn) is None:
            raise bad_parameter("Destination.FilterArns", f"{arn} is not the ARN of a rule.")
    rows = rows_of(ctx)
    if sum(1 for one in rows.all() if one["State"] in AT_WORK) >= MOST_AT_WORK and rows.find(req["ReplayName"]) is None:
        raise too_many()
    value = {
        **{member: req[member] for member in ("ReplayName", "Description", "EventSourceArn", "Destination") if req.get(member)},
        "EventStartTime": req["EventStartTime"],
        "EventEndTime": req["EventEndTime"],
        "State": "STARTING",
        "ReplayStartTime": ctx.clock.now(),
        "_archive": archive["_uid"],
        "_archive_name": name,
        "_after": "",
    }
    lane = replaying.lane_of(ctx.account, ctx.region, req["ReplayName"])
    fact = {"account": ctx.account, "region": ctx.region, "name": req["ReplayName"]}
    try:
        ctx.write(
            Insert(rows.table, req["ReplayName"], value),
            ctx.cloud.events.recording(replaying.CONSUMER, lane, req["ReplayName"], fact),
        )
    except AlreadyExists:
        raise already(f"Replay {req['ReplayName']}") from None
    ctx.cloud.events.wake(replaying.CONSUMER, lane)
    return {
        name: one for name, one in shown(ctx, value).items() if name in ("ReplayArn", "State", "StateReason", "ReplayStartTime")
    }


@ops
def describe_replay(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """How far a replay has come.

    Errors: ResourceNotFoundException.
    """
    found = rows_of(ctx).find(req["ReplayName"])
    if found is None:
        raise no_replay(req["ReplayName"])
    return shown(ctx, found)


@ops
def list_replays(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Replays by name, up to 100 a page; one of NamePrefix, EventSourceArn and State narrows.

    Errors: ValidationException - more than one of them.
    """
    if sum(1 for name in ("NamePrefix", "EventSourceArn", "State") if req.get(name)) > 1:
        raise invalid("At most one filter is allowed for ListReplays. Use either : State, EventSourceArn, or NamePrefix.")
    limit, after = req.get("Limit") or 100, decode_token(req.get("NextToken"))
    found = [
        one
        for one in rows_of(ctx).all(prefix=req.get("NamePrefix") or "")
        if one["ReplayName"] > after
        and req.get("EventSourceArn") in (None, one["EventSourceArn"])
        and req.get("State") in (None, one["State"])
    ]
    listed = [
        {name: one for name, one in shown(ctx, value).items() if name not in ("Description", "Destination")} for value in found
    ]
    token = encode_token(found[limit - 1]["ReplayName"]) if len(found) > limit else None
    return {"Replays": listed[:limit], "NextToken": token}


@ops
def cancel_replay(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """End a replay; what it sent already stays sent.

    Errors: ResourceNotFoundException. IllegalStatusException - it has ended.
    """
    rows = rows_of(ctx)
    for _ in range(20):
        row = rows.row(req["ReplayName"])
        if row is None:
            raise no_replay(req["ReplayName"])
        if row.value["State"] not in ("STARTING", "RUNNING"):
            raise ServiceError(
                "IllegalStatusException", f"Replay {req['ReplayName']} is not in a valid state for this operation.", 400
            )
        value = row.value | {"State": "CANCELLING"}
        try:
            ctx.write(Update(rows.table, row.id, value, row.version))
        except Conflict:
            continue
        return {"ReplayArn": shown(ctx, value)["ReplayArn"], "State": "CANCELLING"}
    raise busy(f"Replay {req['ReplayName']}")


def rows_of(ctx: Context) -> Rows:
    return ctx.records("Replay", service=DATA)


def shown(ctx: Context, value: Mapping[str, Any]) -> dict[str, Any]:
    return {**value, "ReplayArn": ctx.arn(f"replay/{value['ReplayName']}", service="events")}
