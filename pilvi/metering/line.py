"""Usage lines: how much of what an account has used in one hour. Facts, never changed by what things cost.

    meter + when it ran + how much in all  --spread-->  a line an hour  --keeping-->  changes for the caller's own transaction

A line's id follows from its hour and its meter: the same use written down twice is one line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any

from pilvi.storage.records import Put, Records, Table

ON_DEMAND = "On Demand Instances"
SPOT = "Spot Instances"
"""Cost Explorer's purchase types."""
HOURS = ("Hrs", 3600)
"""The unit of instance time, and how many seconds (in which it is counted) make one."""

Span = tuple[datetime, datetime]

_NOUN = "Line"
_HOUR = timedelta(hours=1)
_SCAN = 1000


@dataclass(frozen=True, slots=True)
class Meter:
    """What is counted."""

    id: str
    """Of this one use: never used for another."""
    account: str
    region: str
    product: str
    """AWS's product code: AmazonSageMaker."""
    usage: str
    """Usage type without its Region: `Train:ml.m5.large`."""
    operation: str
    resource: str
    """ARN"""
    instance_type: str = ""
    purchase: str = ON_DEMAND
    unit: str = HOURS[0]
    per_unit: int = HOURS[1]
    """How many of what is counted make one unit: 3600 seconds an hour."""


_MEMBERS = tuple(member.name for member in fields(Meter))


@dataclass(frozen=True, slots=True)
class Line:
    """One hour's use of one resource."""

    meter: Meter
    start: datetime
    end: datetime
    quantity: int
    """In parts of the unit: seconds."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """The resource's, when its use was final."""


def spread(meter: Meter, spans: Sequence[Span], quantity: int, tags: Mapping[str, str] | None = None) -> list[Line]:
    """A whole quantity over the hours of the time it was used in, by how long it was in each; no part is lost to rounding."""
    pieces = [piece for span in spans for piece in _hours(*span)]
    whole = sum((end - start for start, end in pieces), timedelta())
    if not pieces or quantity <= 0:
        return []
    found: dict[datetime, Line] = {}
    passed, given = timedelta(), 0
    for start, end in pieces:
        passed += end - start
        upto = quantity if passed == whole else quantity * _us(passed) // _us(whole)
        hour = _hour(start)
        earlier = found.get(hour)
        found[hour] = Line(
            meter,
            earlier.start if earlier else start,
            end,
            (earlier.quantity if earlier else 0) + upto - given,
            dict(tags or {}),
        )
        given = upto
    return [line for line in found.values() if line.quantity]


def keeping(lines: Iterable[Line]) -> tuple[Put, ...]:
    """The changes that write lines down; to be part of the transaction that makes the use final."""
    return tuple(Put(_table(line.meter.account), _id(line), _to_record(line)) for line in lines)


def lines_between(store: Records, account: str, start: datetime, end: datetime) -> Iterator[Line]:
    """An account's lines that begin in a time, of all its Regions, by hour."""
    after, before = f"{_hour(start):%Y-%m-%dT%H}", f"{end:%Y-%m-%dT%H:%M}"
    while rows := store.scan(_table(account), after=after, before=before, limit=_SCAN):
        for row in rows:
            line = _from_record(row.value)
            if start <= line.start < end:
                yield line
        after = rows[-1].id


def tags_of(store: Records, account: str, region: str, service: str, arn: str) -> dict[str, str]:
    """A resource's tags. A service whose resources are metered keeps them in its table `Tags`, by ARN."""
    row = store.get(Table(account, region, service, "Tags"), arn)
    return {} if row is None else {tag["Key"]: tag["Value"] for tag in row.value["Tags"]}


def _table(account: str) -> Table:
    return Table(account, "", "metering", _NOUN)


def _id(line: Line) -> str:
    # Ids stand in the order of hours: a scan of some time reads no other.
    return f"{_hour(line.start):%Y-%m-%dT%H}:00/{line.meter.id}/{line.meter.usage}"


def _hours(start: datetime, end: datetime) -> Iterator[Span]:
    """A time, cut where hours begin. No time at all still lies in an hour."""
    while True:
        cut = min(_hour(start) + _HOUR, end)
        yield start, max(cut, start)
        if cut >= end:
            return
        start = cut


def _hour(instant: datetime) -> datetime:
    return instant.replace(minute=0, second=0, microsecond=0)


def _us(time: timedelta) -> int:
    return max(1, time // timedelta(microseconds=1))


def _to_record(line: Line) -> dict[str, Any]:
    return {**asdict(line.meter), "start": line.start, "end": line.end, "quantity": line.quantity, "tags": dict(line.tags)}


def _from_record(record: Mapping[str, Any]) -> Line:
    return Line(meter_from(record), record["start"], record["end"], record["quantity"], record["tags"])


def meter_from(record: Mapping[str, Any]) -> Meter:
    return Meter(**{name: record[name] for name in _MEMBERS if name in record})
