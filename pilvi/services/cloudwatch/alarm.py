"""Alarms on metrics: put, described, switched, deleted. How they change their state: alarm_run.py."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pilvi.core.errors import AlreadyExists, Conflict, Invalid, NotFound, ServiceError
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Context, Operations
from pilvi.schedules.firing import setting
from pilvi.services.cloudwatch.alarm_check import checked, watched_of
from pilvi.services.cloudwatch.alarm_run import WHO, next_ms
from pilvi.services.cloudwatch.alarm_state import INSUFFICIENT
from pilvi.services.cloudwatch.alarm_tag import checked_tags
from pilvi.services.cloudwatch.alarms import (
    COMPOSITE,
    METRIC_ALARM,
    State,
    alarms_of,
    arn_of,
    change_alarm,
    enter,
    find_alarm,
    item,
    resource_not_found,
)
from pilvi.services.cloudwatch.composite_rule import children_of
from pilvi.services.cloudwatch.series import key_of
from pilvi.storage.records import Change, Delete, Insert, Row, Update

ops = Operations()

MOST = 5000
"""Alarms of an account in a Region. Source: CloudWatch quotas."""
_PAGE = 50


@ops
def put_metric_alarm(ctx: Context, req: Mapping[str, Any]) -> None:
    """Make or replace an alarm on one metric. A new one begins in INSUFFICIENT_DATA, a replaced one keeps its state; both are looked at with
    the next minute.

    req: AlarmName, MetricName and Namespace with Dimensions, Statistic or ExtendedStatistic, Period (10, 20, 30, n * 60), Unit - or Metrics
    with one MetricStat; EvaluationPeriods, DatapointsToAlarm, Threshold, ComparisonOperator, TreatMissingData,
    EvaluateLowSampleCountPercentile; ActionsEnabled, OKActions, AlarmActions, InsufficientDataActions (topics and functions); Tags.
    Errors: ValidationError, InvalidParameterCombination, MissingParameter; LimitExceeded - 5,000 alarms.
    Source: API reference, PutMetricAlarm.
    Differs: metric math, anomaly bands, windows, and actions of EC2, Auto Scaling and Systems Manager are refused.
    """
    settings = checked(req, ctx.account)
    keep_alarm(ctx, METRIC_ALARM, req, settings, due=next_ms(ctx.clock.time_s(), watched_of(settings)["Period"]))


def keep_alarm(ctx: Context, kind: str, req: Mapping[str, Any], settings: Mapping[str, Any], due: int | None = None) -> None:
    """Write an alarm of either kind. due: when it is looked at by the clock, in milliseconds."""
    name, now = req["AlarmName"], ctx.clock.now()
    tags = checked_tags(req.get("Tags") or ())
    while True:
        row, generation = find_alarm(ctx, name), ctx.ids.hex(8)
        if row is not None and row.value["_kind"] != kind:
            raise ServiceError("ValidationError", "Alarm type cannot be changed.", 400)
        made = {"AlarmName": name, "AlarmArn": arn_of(ctx, name), "_kind": kind, "_generation": generation}
        alarm = {**_begun(ctx, row, tags), **made, **settings, "AlarmConfigurationUpdatedTimestamp": now}
        word = "created" if row is None else "updated"
        changes: list[Change] = [
            item(ctx, alarm, "ConfigurationUpdate", f'Alarm "{name}" {word}', {"version": "1.0", "type": word.removesuffix("d"), **_shown(alarm)})
        ]  # fmt: skip
        table = alarms_of(ctx.account, ctx.region)
        changes.append(Insert(table, name, alarm) if row is None else Update(table, name, alarm, row.version))
        if due is not None:
            changes.append(setting(WHO, f"{ctx.account}/{ctx.region}/{generation}/{name}", due))
        try:
            ctx.write(*changes)
        except (AlreadyExists, Conflict):
            continue
        if due is not None:
            ctx.cloud.schedules.expect(due)
        return


def _begun(ctx: Context, row: Row | None, tags: Mapping[str, str]) -> dict[str, Any]:
    """The state of a new alarm, or that of the one that is replaced, whose tags stay."""
    kept = ("StateValue", "StateReason", "StateReasonData", "StateUpdatedTimestamp", "StateTransitionedTimestamp", "_tags")
    if row is not None:
        return {name: row.value[name] for name in kept if name in row.value}
    if len(ctx.store.scan(alarms_of(ctx.account, ctx.region), limit=MOST)) >= MOST:
        raise ServiceError("LimitExceeded", "The quota for alarms has been reached.", 400)
    now = ctx.clock.now()
    begun = {"StateValue": INSUFFICIENT, "StateReason": "Unchecked: Initial alarm creation"}
    return {**begun, "StateUpdatedTimestamp": now, "StateTransitionedTimestamp": now, "_tags": dict(tags)}


@ops
def describe_alarms(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Alarms by name; of metrics only, unless AlarmTypes says otherwise.

    req: AlarmNames (up to 100) or AlarmNamePrefix, AlarmTypes, StateValue, ActionPrefix, ChildrenOfAlarmName or ParentsOfAlarmName (names,
    ARNs and states only), MaxRecords (1-100, 50), NextToken.
    Errors: InvalidNextToken; InvalidParameterCombination; ResourceNotFound - of the alarm whose relatives are wanted.
    """
    if req.get("AlarmNames") and req.get("AlarmNamePrefix"):
        raise ServiceError("InvalidParameterCombination", "AlarmNames and AlarmNamePrefix must not be used together.", 400)
    relatives = _relatives(ctx, req)
    kinds = [METRIC_ALARM, COMPOSITE] if relatives is not None else req.get("AlarmTypes") or [METRIC_ALARM]
    limit = req.get("MaxRecords") or _PAGE
    wanted = set(req.get("AlarmNames") or ())
    found: list[dict[str, Any]] = []
    after, token = _after(req), None
    while token is None:
        rows = ctx.store.scan(alarms_of(ctx.account, ctx.region), prefix=req.get("AlarmNamePrefix") or "", after=after)
        if not rows:
            break
        for row in rows:
            after = row.id
            if (
                (wanted and row.id not in wanted)
                or (relatives is not None and row.id not in relatives)
                or not _fits(row.value, kinds, req)
            ):
                continue
            if len(found) == limit:
                token = encode_token(found[-1]["AlarmName"])
                break
            found.append(row.value)
    told: dict[str, list[dict[str, Any]]] = {METRIC_ALARM: [], COMPOSITE: []}
    for alarm in found:
        told[alarm["_kind"]].append(_brief(alarm) if relatives is not None else _shown(alarm))
    return {"MetricAlarms": told[METRIC_ALARM], "CompositeAlarms": told[COMPOSITE], "NextToken": token}


def _after(req: Mapping[str, Any]) -> str:
    try:
        return decode_token(req.get("NextToken"))
    except Invalid:
        raise ServiceError("InvalidNextToken", "The next token specified is invalid.", 400) from None


def _fits(alarm: Mapping[str, Any], kinds: Sequence[str], req: Mapping[str, Any]) -> bool:
    if alarm["_kind"] not in kinds or req.get("StateValue") not in (None, alarm["StateValue"]):
        return False
    prefix = req.get("ActionPrefix")
    arns = [*alarm["OKActions"], *alarm["AlarmActions"], *alarm["InsufficientDataActions"]]
    return prefix is None or any(arn.startswith(prefix) for arn in arns)


def _relatives(ctx: Context, req: Mapping[str, Any]) -> set[str] | None:
    """Names that the rule of one alarm speaks of, or of those whose rule speaks of it."""
    if name := req.get("ChildrenOfAlarmName"):
        row = find_alarm(ctx, name)
        if row is None:
            raise resource_not_found()
        return children_of(row.value.get("AlarmRule", ""))
    if name := req.get("ParentsOfAlarmName"):
        rows = ctx.store.scan(alarms_of(ctx.account, ctx.region), limit=MOST)
        return {row.id for row in rows if "AlarmRule" in row.value and name in children_of(row.value["AlarmRule"])}
    return None


def _shown(alarm: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in alarm.items() if not name.startswith("_")}


def _brief(alarm: Mapping[str, Any]) -> dict[str, Any]:
    return {name: alarm[name] for name in ("AlarmName", "AlarmArn", "StateValue", "StateReason", "StateUpdatedTimestamp")}


@ops
def describe_alarms_for_metric(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The alarms on exactly this metric. req: MetricName, Namespace, Dimensions; Statistic, ExtendedStatistic, Period, Unit narrow it."""
    wanted = key_of(req["Namespace"], req["MetricName"], req.get("Dimensions") or ())
    found = []
    for row in ctx.store.scan(alarms_of(ctx.account, ctx.region), limit=MOST):
        if row.value["_kind"] != METRIC_ALARM:
            continue
        watched = watched_of(row.value)
        if key_of(watched["Namespace"], watched["MetricName"], watched["Dimensions"] or ()) != wanted:
            continue
        asked = {"Stat": req.get("Statistic") or req.get("ExtendedStatistic"), "Period": req.get("Period"), "Unit": req.get("Unit")}
        if all(value in (None, watched[name]) for name, value in asked.items()):
            found.append(_shown(row.value))
    return {"MetricAlarms": found}


@ops
def delete_alarms(ctx: Context, req: Mapping[str, Any]) -> None:
    """Delete alarms, all or none.

    Errors: ResourceNotFound - one of them is not there; ValidationError - a composite alarm's rule names one that would stay.
    """
    while True:
        rows = [find_alarm(ctx, name) for name in dict.fromkeys(req["AlarmNames"])]
        there = [row for row in rows if row is not None]
        if len(there) < len(rows):
            raise resource_not_found()
        _check_free(ctx, {row.id for row in there})
        changes: list[Change] = []
        for row in there:
            data = {"version": "1.0", "type": "Delete", **_shown(row.value)}
            changes.append(Delete(alarms_of(ctx.account, ctx.region), row.id, row.version))
            changes.append(item(ctx, row.value, "ConfigurationUpdate", f'Alarm "{row.id}" deleted', data))
        try:
            ctx.write(*changes)
        except (Conflict, NotFound):
            continue
        return


def _check_free(ctx: Context, names: set[str]) -> None:
    for row in ctx.store.scan(alarms_of(ctx.account, ctx.region), limit=MOST):
        if row.id not in names and (needed := names & children_of(row.value.get("AlarmRule", ""))):
            raise ServiceError(
                "ValidationError",
                f"Cannot delete {sorted(needed)[0]} as there are composite alarm(s) depending on it: {row.id}.",
                400,
            )


@ops
def enable_alarm_actions(ctx: Context, req: Mapping[str, Any]) -> None:
    """Let alarms act. Names that are not there are passed over. Differs: none; AWS's reference names no error either."""
    _switch(ctx, req["AlarmNames"], True)


@ops
def disable_alarm_actions(ctx: Context, req: Mapping[str, Any]) -> None:
    """Let alarms change their state without acting. Names that are not there are passed over."""
    _switch(ctx, req["AlarmNames"], False)


def _switch(ctx: Context, names: Sequence[str], is_on: bool) -> None:
    def change(alarm: dict[str, Any]) -> Sequence[Change] | None:
        if alarm["ActionsEnabled"] == is_on:
            return None
        alarm |= {"ActionsEnabled": is_on, "AlarmConfigurationUpdatedTimestamp": ctx.clock.now()}
        data = {"version": "1.0", "type": "Update", **_shown(alarm)}
        return [item(ctx, alarm, "ConfigurationUpdate", f'Alarm "{alarm["AlarmName"]}" updated', data)]

    for name in names:
        if find_alarm(ctx, name) is not None:
            change_alarm(ctx, name, change)


@ops
def set_alarm_state(ctx: Context, req: Mapping[str, Any]) -> None:
    """Bring an alarm into a state until it is looked at next; its actions for that state run.

    req: AlarmName, StateValue, StateReason, StateReasonData (JSON).
    Errors: ResourceNotFound; InvalidFormatFault - StateReasonData is no JSON.
    """
    data = req.get("StateReasonData") or ""
    if data:
        try:
            json.loads(data)
        except ValueError:
            raise ServiceError("InvalidFormat", "StateReasonData was not in valid JSON format.", 400) from None
    state = State(req["StateValue"], req["StateReason"], data)
    enter(ctx, req["AlarmName"], lambda _: state)
