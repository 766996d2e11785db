"""Meters that run: what is used until somebody ends it (a notebook), of which no line can be final yet.

    starting --(a look every minute: `Beat`)--> ending: the meter goes and its lines come, in one transaction of the caller's

One meter for each resource. It knows when it was last seen running, so a server that died is not paid for: its use ends with that look.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from math import ceil
from typing import TYPE_CHECKING, Any

from pilvi.core.errors import Conflict
from pilvi.metering.line import Line, Meter, keeping, meter_from, spread, tags_of
from pilvi.storage.records import Change, Delete, Put, Records, Table, Update

if TYPE_CHECKING:
    from pilvi.core.clock import Clock

LOOK_S = 60.0
_NOUN = "Running"


@dataclass(frozen=True, slots=True)
class Running:
    meter: Meter
    service: str
    since: datetime
    seen: datetime

    @property
    def seconds(self) -> int:
        return max(1, ceil((self.seen - self.since).total_seconds()))


def starting(meter: Meter, service: str, now: datetime) -> Put:
    """The meter of a resource begins to run. service: as botocore names it, for the resource's tags."""
    return Put(_table(meter.account), meter.resource, {**asdict(meter), "service": service, "since": now, "seen": now})


def seeing(store: Records, account: str, resource: str, now: datetime) -> None:
    """It still runs; for services that look now and then by themselves, without a `Beat`."""
    row = store.get(_table(account), resource)
    if row is None or row.value["seen"] >= now:
        return
    try:
        store.write(Update(_table(account), resource, {**row.value, "seen": now}, row.version))
    except Conflict:
        return  # it has just ended


def ending(store: Records, account: str, resource: str) -> tuple[Change, ...]:
    """It ends where it was last seen; nothing when it does not run."""
    row = store.get(_table(account), resource)
    if row is None:
        return ()
    return (Delete(_table(account), resource), *keeping(_lines(store, _from_record(row.value))))


def running(store: Records, account: str) -> Iterator[Running]:
    """Every meter of an account that runs."""
    after = ""
    while rows := store.scan(_table(account), after=after):
        for row in rows:
            yield _from_record(row.value)
        after = rows[-1].id


def lines_so_far(store: Records, account: str) -> Iterator[Line]:
    """What the lines would be if all that runs ended now."""
    for found in running(store, account):
        yield from _lines(store, found)


class Beat:
    """Looks at a meter while its resource runs: `beat()` as often as one likes, `beat(is_last=True)` at the end."""

    def __init__(self, store: Records, clock: Clock, account: str, resource: str) -> None:
        self._store = store
        self._clock = clock
        self._table = _table(account)
        self._resource = resource
        self._last_s = clock.time_s()

    def __call__(self, *, is_last: bool = False) -> None:
        now_s = self._clock.time_s()
        if not is_last and now_s - self._last_s < LOOK_S:
            return
        self._last_s = now_s
        row = self._store.get(self._table, self._resource)
        if row is None:
            return
        try:
            self._store.write(Update(self._table, self._resource, {**row.value, "seen": self._clock.now()}, row.version))
        except Conflict:
            return  # it has just ended


def _lines(store: Records, found: Running) -> list[Line]:
    meter = found.meter
    tags = tags_of(store, meter.account, meter.region, found.service, meter.resource)
    return spread(meter, [(found.since, found.seen)], found.seconds, tags)


def _from_record(record: Mapping[str, Any]) -> Running:
    return Running(meter_from(record), record["service"], record["since"], record["seen"])


def _table(account: str) -> Table:
    return Table(account, "", "metering", _NOUN)
