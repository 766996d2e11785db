"""Rules: which events of a bus start something, or when.

Source: EventBridge API reference, PutRule, DescribeRule, ListRules, EnableRule, DisableRule, DeleteRule, ListRuleNamesByTarget,
TestEventPattern.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from pilvi.core.errors import AlreadyExists, Conflict, Invalid, NotFound
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Context, Operations
from pilvi.events.patterns import compile_pattern
from pilvi.schedules.cron import parse_rule
from pilvi.services.events import timers
from pilvi.services.events.buses import DEFAULT, Place, catalog_of, find_bus, place_in, rows_at
from pilvi.services.events.errors import bad_parameter, bad_pattern, busy, invalid, is_managed, no_bus, no_rule, too_many
from pilvi.services.events.tags import checked_tags
from pilvi.storage.records import Change, Delete, Expect, Insert, Row, Update

ops = Operations()

MOST: Final = 300
"""Of one bus. Source: EventBridge quotas."""
MOST_ATTEMPTS: Final = 20
_SETTINGS: Final = ("EventPattern", "ScheduleExpression", "Description", "RoleArn")

Settled = Callable[[dict[str, Any] | None], dict[str, Any] | None]
"""The rule as it is -> as it is to be; None for gone."""


@ops
def put_rule(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make a rule, or replace what it says; its targets stay.

    req: Name, EventPattern and/or ScheduleExpression (cron, rate; default bus only), State (ENABLED), Description, RoleArn, Tags (of a
    new rule), EventBusName (name or ARN).
    Errors: InvalidEventPatternException, ValidationException, ResourceNotFoundException - the bus. LimitExceededException - 300.
    ManagedRuleException.
    Differs: ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS is as ENABLED: there are no events of CloudTrail yet.
    """
    place = find_bus(ctx, req.get("EventBusName")).place
    check_rule(place, req)
    name = req["Name"]
    rows = rows_at(ctx, place, "Rule")
    if rows.find(place.rule_id(name)) is None and len(rows.scan(prefix=f"{place.name}\0", limit=MOST)) >= MOST:
        raise too_many()

    def put(there: dict[str, Any] | None) -> dict[str, Any]:
        check_managed(ctx, name, there)
        kept = there or {"_targets": {}, "_tags": checked_tags({}, req.get("Tags")), "CreatedBy": ctx.account, **managed_by(ctx)}
        kept = {member: value for member, value in kept.items() if member not in _SETTINGS}
        return {**kept, "State": req.get("State") or "ENABLED", **{member: req[member] for member in _SETTINGS if req.get(member)}}

    change_rule(ctx, place, name, put, restart=True)
    return {"RuleArn": place.rule_arn(name)}


@ops
def describe_rule(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A rule without its targets.

    Errors: ResourceNotFoundException.
    """
    place = find_bus(ctx, req.get("EventBusName")).place
    return shown(place, req["Name"], find_rule(ctx, place, req["Name"]))


@ops
def list_rules(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Rules of a bus by name, up to 100 a page; NamePrefix narrows.

    Errors: ResourceNotFoundException - the bus.
    """
    place = find_bus(ctx, req.get("EventBusName")).place
    limit = req.get("Limit") or 100
    prefix = f"{place.name}\0{req.get('NamePrefix') or ''}"
    found = rows_at(ctx, place, "Rule").scan(prefix=prefix, after=decode_token(req.get("NextToken")), limit=limit + 1)
    rules = [shown(place, row.id.partition("\0")[2], row.value) for row in found[:limit]]
    for rule in rules:
        rule.pop("CreatedBy", None)
    return {"Rules": rules, "NextToken": encode_token(found[limit - 1].id) if len(found) > limit else None}


@ops
def list_rule_names_by_target(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Rules of a bus that have a target of this ARN.

    Errors: ResourceNotFoundException - the bus.
    """
    place = find_bus(ctx, req.get("EventBusName")).place
    limit = req.get("Limit") or 100
    after = decode_token(req.get("NextToken"))
    rules = catalog_of(ctx.cloud).listening(place).rules
    wanted = (rule.name for rule in rules.values() if any(target["Arn"] == req["TargetArn"] for target in rule.targets.values()))
    names = [name for name in sorted(wanted) if name > after]
    return {"RuleNames": names[:limit], "NextToken": encode_token(names[limit - 1]) if len(names) > limit else None}


@ops
def enable_rule(ctx: Context, req: Mapping[str, Any]) -> None:
    """Let a rule work; a schedule counts from now.

    Errors: ResourceNotFoundException, ManagedRuleException.
    """
    set_state(ctx, req, "ENABLED")


@ops
def disable_rule(ctx: Context, req: Mapping[str, Any]) -> None:
    """Let a rule rest.

    Errors: ResourceNotFoundException, ManagedRuleException.
    """
    set_state(ctx, req, "DISABLED")


@ops
def delete_rule(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove a rule without targets. One that is not there is no error.

    req: Force - also a rule that a service manages.
    Errors: ValidationException - it has targets. ManagedRuleException.
    """
    place = find_bus(ctx, req.get("EventBusName")).place

    def gone(there: dict[str, Any] | None) -> None:
        check_managed(ctx, req["Name"], there, forced=bool(req.get("Force")))
        if there is not None and there["_targets"]:
            raise invalid("Rule can't be deleted since it has targets.")

    change_rule(ctx, place, req["Name"], gone, restart=True)


@ops
def test_event_pattern(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: ARG001
    """Whether an event fits a pattern.

    Errors: InvalidEventPatternException. ValidationException - the event is no JSON object, or lacks a member that every event has.
    """
    pattern = understood(req["EventPattern"])
    try:
        event = json.loads(req["Event"])
    except ValueError:
        raise bad_parameter("Event") from None
    if not isinstance(event, dict):
        raise bad_parameter("Event")
    for name in ("id", "account", "source", "time", "region", "detail-type"):
        if name not in event:
            raise bad_parameter("Event")
    return {"Result": pattern.matches(event)}


# -- checking -----------------------------------------------------------------------------------------------------------------


def check_rule(place: Place, req: Mapping[str, Any]) -> None:
    if not req.get("EventPattern") and not req.get("ScheduleExpression"):
        raise invalid("Parameter(s) EventPattern or ScheduleExpression must be specified.")
    if req.get("EventPattern"):
        understood(req["EventPattern"])
    if expression := req.get("ScheduleExpression"):
        if place.name != DEFAULT:
            raise invalid("ScheduleExpression is supported only on the default event bus.")
        try:
            parse_rule(expression)
        except Invalid as error:
            raise invalid(error.message) from error


def understood(pattern: str) -> Any:
    try:
        return compile_pattern(pattern)
    except Invalid as error:
        raise bad_pattern(error.message) from error


def check_managed(ctx: Context, name: str, rule: Mapping[str, Any] | None, *, forced: bool = False) -> None:
    """A rule that a service made is that service's to change."""
    by = (rule or {}).get("ManagedBy")
    if by and not forced and ctx.principal.name != by:
        raise is_managed(name, by)


def managed_by(ctx: Context) -> dict[str, str]:
    return {"ManagedBy": ctx.principal.name} if ctx.principal.kind == "service" else {}


# -- reading and writing --------------------------------------------------------------------------------------------------------


def find_rule(ctx: Context, place: Place, name: str) -> dict[str, Any]:
    """A rule's row. ResourceNotFoundException."""
    found = rows_at(ctx, place, "Rule").find(place.rule_id(name))
    if found is None:
        raise no_rule(name, place.name)
    return found


def shown(place: Place, name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    return {**value, "Name": name, "Arn": place.rule_arn(name), "EventBusName": place.name}


def set_state(ctx: Context, req: Mapping[str, Any], state: str) -> None:
    place = find_bus(ctx, req.get("EventBusName")).place

    def changed(there: dict[str, Any] | None) -> dict[str, Any]:
        if there is None:
            raise no_rule(req["Name"], place.name)
        check_managed(ctx, req["Name"], there)
        return there | {"State": state}

    change_rule(ctx, place, req["Name"], changed, restart=True)


def change_rule(ctx: Context, place: Place, name: str, settle: Settled, *, restart: bool = False) -> None:
    """Read, change, write a rule; restart: its schedule begins anew, in the same transaction."""
    rows = rows_at(ctx, place, "Rule")
    for _ in range(MOST_ATTEMPTS):
        row = rows.row(place.rule_id(name))
        value = settle(row.value if row is not None else None)
        if row is None and value is None:
            return
        timer = timers.restarted(ctx.cloud, place, name, value) if restart else timers.Restarted()
        there = bus_stays(ctx, place) if row is None else ()
        try:
            ctx.write(*writing(place, name, row, value), *timer.changes, *there)
        except (AlreadyExists, Conflict, NotFound):
            continue  # somebody else was quicker, or the schedule has just fired
        if timer.due_ms:
            ctx.cloud.schedules.expect(timer.due_ms)
        return
    raise busy(f"Rule {name}")


def bus_stays(ctx: Context, place: Place) -> tuple[Change, ...]:
    """A new rule's bus must still be there when it is written."""
    if place.name == DEFAULT:
        return ()
    bus = rows_at(ctx, place, "Bus").row(place.name)
    if bus is None:
        raise no_bus(place.name)
    return (Expect(place.table("Bus"), place.name, bus.version),)


def writing(place: Place, name: str, row: Row | None, value: dict[str, Any] | None) -> list[Change]:
    table, id = place.table("Rule"), place.rule_id(name)
    if row is None:
        return [Insert(table, id, value)] if value is not None else []
    return [Update(table, id, value, row.version)] if value is not None else [Delete(table, id, row.version)]


def place_and_name(arn: str) -> tuple[Place, str] | None:
    """The rule that an ARN names."""
    head, _, path = arn.partition(":rule/")
    if not path:
        return None
    bus, slash, name = path.rpartition("/")
    place = place_in(f"{head}:event-bus/{bus if slash else DEFAULT}")
    return (place, name) if place is not None else None
