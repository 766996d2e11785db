"""Alarms as rows, and what comes of a change of state: history, actions, an event on the default bus, alarms that look at this one.

    Alarm          name -> settings, state, `_kind`, `_generation`, `_tags`
    AlarmHistory   millisecond - number -> an item

All of it is one transaction with the new state; actions and events are delivered from the outbox (pilvi.events).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pilvi.core.errors import Conflict, ServiceError
from pilvi.core.principal import Principal
from pilvi.core.service import Context
from pilvi.events import told
from pilvi.services.cloudwatch.alarm_message import event_detail, message_of
from pilvi.services.cloudwatch.alarm_state import ALARM, INSUFFICIENT, OK
from pilvi.storage.records import Change, Insert, Row, Table, Update

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

SERVICE: Final = "cloudwatch"
PRINCIPAL: Final = "cloudwatch.amazonaws.com"
METRIC_ALARM: Final = "MetricAlarm"
COMPOSITE: Final = "CompositeAlarm"
ACTIONS_OF: Final = {OK: "OKActions", ALARM: "AlarmActions", INSUFFICIENT: "InsufficientDataActions"}
ACTIONS: Final = "cloudwatch/actions"
FOLLOWERS: Final = "cloudwatch/composites"
"""Consumers: actions of alarms; alarms whose rule names one that has changed."""
HISTORY_S: Final = 30 * 86_400
"""How long history is kept. Source: DescribeAlarmHistory."""


class State(NamedTuple):
    value: str
    reason: str
    data: str = ""
    """JSON"""


class Changes(NamedTuple):
    """What makes a change of state, and wakes those who wait for it."""

    changes: Sequence[Change]
    wake: Callable[[], None]


def alarms_of(account: str, region: str) -> Table:
    return Table(account, region, SERVICE, "Alarm")


def own_context(cloud: Cloud, account: str, region: str) -> Context:
    """CloudWatch itself, in an account."""
    principal = Principal("service", account, "", PRINCIPAL, PRINCIPAL)
    return Context(cloud, principal=principal, account=account, region=region, service=SERVICE)


def arn_of(ctx: Context, name: str) -> str:
    return ctx.arn(f"alarm:{name}", service="cloudwatch")


def find_alarm(ctx: Context, name: str) -> Row | None:
    return ctx.store.get(alarms_of(ctx.account, ctx.region), name)


def resource_not_found() -> ServiceError:
    return ServiceError("ResourceNotFound", "Alarm not found.", 404)


def change_alarm(ctx: Context, name: str, change: Callable[[dict[str, Any]], Sequence[Change] | None]) -> None:
    """Change an alarm's row, with further changes; again when somebody else did meanwhile. `change` gives None when nothing is to do.
    Errors: ResourceNotFound."""
    while True:
        row = find_alarm(ctx, name)
        if row is None:
            raise resource_not_found()
        value = dict(row.value)
        more = change(value)
        if more is None:
            return
        try:
            ctx.write(Update(alarms_of(ctx.account, ctx.region), name, value, row.version), *more)
        except Conflict:
            continue
        return


# -- a change of state ----------------------------------------------------------------------------------------------------


def entering(ctx: Context, alarm: dict[str, Any], state: State) -> Changes:
    """Bring an alarm into a state: `alarm` is changed, and what else belongs into its transaction is given."""
    now = ctx.clock.now()
    before = State(alarm["StateValue"], alarm["StateReason"], alarm.get("StateReasonData", ""))
    alarm |= {"StateValue": state.value, "StateReason": state.reason, "StateUpdatedTimestamp": now}
    alarm.pop("StateReasonData", None)
    if state.data:
        alarm["StateReasonData"] = state.data
    if before.value == state.value:
        return Changes((), lambda: None)
    alarm["StateTransitionedTimestamp"] = now
    data = {"version": "1.0", "oldState": _state(before), "newState": _state(state)}
    changes: list[Change] = [
        item(ctx, alarm, "StateUpdate", f"Alarm updated from {before.value} to {state.value}", data),
        told.told(
            ctx, ctx.account, ctx.region, "aws.cloudwatch", "CloudWatch Alarm State Change", [alarm["AlarmArn"]],
            event_detail(alarm, before),
        ),
        ctx.cloud.events.recording(FOLLOWERS, lane(ctx), lane(ctx), {"account": ctx.account, "region": ctx.region, "name": alarm["AlarmName"]}),
    ]  # fmt: skip
    arns = alarm[ACTIONS_OF[state.value]] if alarm["ActionsEnabled"] else []
    changes += (ctx.cloud.events.recording(ACTIONS, arn, alarm["AlarmArn"], action(ctx, alarm, before, arn, now)) for arn in arns)

    def wake() -> None:
        told.wake(ctx, ctx.account, ctx.region)
        ctx.cloud.events.wake(FOLLOWERS, lane(ctx))
        for arn in arns:
            ctx.cloud.events.wake(ACTIONS, arn)

    return Changes(changes, wake)


def enter(ctx: Context, name: str, state_of: Callable[[Mapping[str, Any]], State | None]) -> None:
    """Bring an alarm, as it is then, into the state that is asked for; None leaves it. Errors: ResourceNotFound."""
    entered = Changes((), lambda: None)

    def change(alarm: dict[str, Any]) -> Sequence[Change] | None:
        nonlocal entered
        state = state_of(alarm)
        if state is None:
            return None
        entered = entering(ctx, alarm, state)
        return entered.changes

    change_alarm(ctx, name, change)
    entered.wake()


def action(ctx: Context, alarm: Mapping[str, Any], before: State, arn: str, now: datetime) -> dict[str, Any]:
    """What an action is told, as it was at that moment."""
    fact = {"action": arn, "account": ctx.account, "region": ctx.region, "kind": alarm["_kind"]}
    return fact | {"alarm": alarm["AlarmName"], "arn": alarm["AlarmArn"], **message_of(ctx, alarm, before, arn, now)}


def lane(ctx: Context) -> str:
    return f"{ctx.account}:{ctx.region}"


def _state(state: State) -> dict[str, Any]:
    told = {"stateValue": state.value, "stateReason": state.reason}
    return told | ({"stateReasonData": state.data} if state.data else {})


def item(ctx: Context, alarm: Mapping[str, Any], kind: str, summary: str, data: Mapping[str, Any]) -> Insert:
    """A line of history."""
    now = ctx.clock.now()
    value = {
        "AlarmName": alarm["AlarmName"],
        "AlarmType": alarm["_kind"],
        "Timestamp": now,
        "HistoryItemType": kind,
        "HistorySummary": summary,
        "HistoryData": data,
    }
    key = f"{int(now.timestamp() * 1000):015d}-{ctx.ids.hex(8)}"
    return Insert(Table(ctx.account, ctx.region, SERVICE, "AlarmHistory"), key, value)
