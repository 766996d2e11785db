"""Composite alarms: in ALARM while a rule over other alarms' states holds. Looked at whenever one of those changes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.cloudwatch.alarm import MOST, keep_alarm
from pilvi.services.cloudwatch.alarm_check import check_name, checked_actions, invalid
from pilvi.services.cloudwatch.alarm_state import ALARM, OK, stamp
from pilvi.services.cloudwatch.alarms import COMPOSITE, State, alarms_of, enter, find_alarm, own_context
from pilvi.services.cloudwatch.composite_rule import children_of, parse
from pilvi.storage.records import Row

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.events import Fact

ops = Operations()


@ops
def put_composite_alarm(ctx: Context, req: Mapping[str, Any]) -> None:
    """Make or replace an alarm over other alarms of this account and Region.

    req: AlarmName, AlarmRule (ALARM(), OK(), INSUFFICIENT_DATA() of up to 100 alarms, AND, OR, NOT, TRUE, FALSE), ActionsEnabled, OKActions,
    AlarmActions, InsufficientDataActions, AlarmDescription, Tags.
    Errors: ValidationError - the rule, an alarm that is not there, a circle; LimitExceeded.
    Source: API reference, PutCompositeAlarm.
    Differs: a suppressor of actions, and AT_LEAST, are refused.
    """
    check_name(req["AlarmName"])
    for member in ("ActionsSuppressor", "ActionsSuppressorWaitPeriod", "ActionsSuppressorExtensionPeriod", "ActionConfiguration"):
        if req.get(member) is not None:
            raise invalid(f"{member} is not built into this cloud yet.")
    parse(req["AlarmRule"])
    _check_children(ctx, req["AlarmName"], req["AlarmRule"])
    settings = {name: req[name] for name in ("AlarmRule", "AlarmDescription") if req.get(name) is not None}
    keep_alarm(ctx, COMPOSITE, req, settings | checked_actions(req))
    reconsider(ctx, req["AlarmName"])


def _check_children(ctx: Context, name: str, rule: str) -> None:
    """All are there, and none depends on this one."""
    seen: set[str] = set()
    waiting = [rule]
    while waiting:
        for child in children_of(waiting.pop()) - seen:
            seen.add(child)
            if child == name:
                raise invalid("AlarmRule must not contain a cycle: an alarm cannot depend on itself.")
            row = find_alarm(ctx, child)
            if row is None:
                raise invalid(f"AlarmRule must not contain alarms that do not exist: {child}.")
            waiting.append(row.value.get("AlarmRule", ""))


def reconsider(ctx: Context, name: str) -> None:
    """Bring a composite alarm into the state its rule calls for."""
    row = find_alarm(ctx, name)
    if row is None or "AlarmRule" not in row.value:
        return
    children = {child: find_alarm(ctx, child) for child in children_of(row.value["AlarmRule"])}
    states = {child: found.value["StateValue"] for child, found in children.items() if found is not None}

    def state_of(alarm: Mapping[str, Any]) -> State | None:
        value = ALARM if parse(alarm["AlarmRule"]).holds(states) else OK
        return State(value, *_reason(alarm, value, children)) if value != alarm["StateValue"] else None

    enter(ctx, name, state_of)


def _reason(alarm: Mapping[str, Any], value: str, children: Mapping[str, Row | None]) -> tuple[str, str]:
    """In words, and as JSON: the child that changed last turned it."""
    there = [row.value for row in children.values() if row is not None]
    if not there:
        return f"{alarm['AlarmRule']} evaluates to {'TRUE' if value == ALARM else 'FALSE'}", ""
    last = max(there, key=lambda child: child["StateTransitionedTimestamp"])
    at = last["StateTransitionedTimestamp"]
    reason = (
        f"{last['AlarmArn']} transitioned to {last['StateValue']} at {at:%A %d %B, %Y %H:%M:%S} UTC"
        if alarm["StateReason"] != "Unchecked: Initial alarm creation"
        else f"{alarm['AlarmArn']} was created and its alarm rule evaluates to {value}"
    )
    told = {"arn": last["AlarmArn"], "state": {"value": last["StateValue"], "timestamp": stamp(at)}}
    return reason, json.dumps({"triggeringAlarms": [told]})


async def follow(cloud: Cloud, fact: Fact) -> None:
    """An alarm has changed: those whose rule names it are looked at."""
    await asyncio.to_thread(_follow, cloud, fact)


def _follow(cloud: Cloud, fact: Fact) -> None:
    ctx = own_context(cloud, fact["account"], fact["region"])
    for row in cloud.store.scan(alarms_of(ctx.account, ctx.region), limit=MOST):
        if fact["name"] in children_of(row.value.get("AlarmRule", "")):
            try:
                reconsider(ctx, row.id)
            except ServiceError as error:
                if error.code != "ResourceNotFound":
                    raise
