"""Schedules of rules at work: when the next event is due, and what comes of it (pilvi.schedules.firing).

    Table(account, Region, "eventbridgedata", "Due")   bus NUL rule -> {due, start, expression}

A schedule that was missed while the server was down happens once, late; the clock moved forward, each time it passed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pilvi.events.told import event_of
from pilvi.schedules.cron import parse_rule
from pilvi.schedules.firing import Fired, Moment, Timer, clearing, setting
from pilvi.services.events import accept
from pilvi.services.events.buses import DATA, Place, catalog_of
from pilvi.storage.records import Change, Delete, Expect, Insert, Table, Update

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

WHO: Final = "events/rule"


class Restarted(NamedTuple):
    changes: Sequence[Change] = ()
    due_ms: int = 0
    """0: nothing is due."""


def due_table(place: Place) -> Table:
    return Table(place.account, place.region, DATA, "Due")


def restarted(cloud: Cloud, place: Place, name: str, rule: dict[str, Any] | None) -> Restarted:
    """What changes when a rule's schedule begins anew, or ends: rule is None, disabled or has none."""
    table, id = due_table(place), place.rule_id(name)
    row = cloud.store.get(table, id)
    changes: list[Change] = []
    if row is not None and row.value["due"]:
        changes.append(clearing(WHO, timer_id(place, name), row.value["due"]))
    if rule is None or rule["State"] == "DISABLED" or not rule.get("ScheduleExpression"):
        if row is not None:
            changes.append(Delete(table, id, row.version))
        return Restarted(changes)
    now = cloud.clock.now()
    value = {"expression": rule["ScheduleExpression"], "start": ms_of(now), "due": 0}
    value["due"] = next_ms(value, value["start"])
    changes.append(Insert(table, id, value) if row is None else Update(table, id, value, row.version))
    if value["due"]:
        changes.append(setting(WHO, timer_id(place, name), value["due"]))
    return Restarted(changes, value["due"])


def fire(cloud: Cloud, timer: Timer, moment: Moment) -> Fired:
    """The event of a rule whose time has come, and its next time."""
    account, region, bus, name = timer.id.split("/", 3)
    place = Place(account, region, bus)
    row = cloud.store.get(due_table(place), place.rule_id(name))
    if row is None or row.value["due"] != timer.due_ms:
        return Fired()
    value = row.value | {"due": next_ms(row.value, max(timer.due_ms, moment.since_ms))}
    changes: list[Change] = [Update(due_table(place), row.id, value, row.version)]
    if value["due"]:
        changes.append(setting(WHO, timer.id, value["due"]))
    rule = catalog_of(cloud).listening(place).rules.get(name)
    if rule is None or not rule.is_enabled:
        return Fired(changes)
    at = datetime.fromtimestamp(timer.due_ms / 1000, UTC)
    event = event_of(cloud, account, region, "aws.events", "Scheduled Event", [rule.arn], {}, at)
    accepted = accept.for_rule(cloud, rule, event)
    rule_row = cloud.store.get(place.table("Rule"), place.rule_id(name))
    if rule_row is not None:
        changes.append(Expect(place.table("Rule"), rule_row.id, rule_row.version))
    return Fired((*changes, *accepted.changes), lambda: accepted.wake(cloud))


def next_ms(value: dict[str, Any], after_ms: int) -> int:
    """When it is due next, later than that; 0 for never again."""
    start = datetime.fromtimestamp(value["start"] / 1000, UTC)
    found = parse_rule(value["expression"]).after(datetime.fromtimestamp(after_ms / 1000, UTC), start)
    return ms_of(found) if found is not None else 0


def timer_id(place: Place, name: str) -> str:
    return "/".join((*place, name))


def ms_of(instant: datetime) -> int:
    return int(instant.timestamp() * 1000)
