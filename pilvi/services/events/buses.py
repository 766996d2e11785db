"""Finding event buses, and what listens on them: rules by the source they want, and archives. Cached until a row changes.

    Table(account, Region, "eventbridge", "Bus")       name -> a bus; the default bus is there without a row
    Table(account, Region, "eventbridge", "Rule")      bus NUL rule -> a rule and its targets
    Table(account, Region, "eventbridge", "Archive")   name -> an archive
    Table(account, Region, "eventbridgedata", ...)     what changes all the time: archived events, timers, replays

`eventbridge` is a service name of the store's own: the events room keeps its entries under `events`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pilvi.core.arn import Arn, partition_of
from pilvi.core.service import Context
from pilvi.events.patterns import Pattern, compile_pattern
from pilvi.services.events.errors import no_bus
from pilvi.storage.records import Row, Rows, Table

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

SERVICE: Final = "eventbridge"
DATA: Final = "eventbridgedata"
DEFAULT: Final = "default"
PRINCIPAL: Final = "events.amazonaws.com"
MOST_KNOWN: Final = 5000
_MEMORY: Final = "events:catalog"


class Place(NamedTuple):
    """Where a bus is."""

    account: str
    region: str
    name: str

    @property
    def arn(self) -> str:
        return f"arn:{partition_of(self.region)}:events:{self.region}:{self.account}:event-bus/{self.name}"

    def rule_arn(self, rule: str) -> str:
        path = rule if self.name == DEFAULT else f"{self.name}/{rule}"
        return f"arn:{partition_of(self.region)}:events:{self.region}:{self.account}:rule/{path}"

    def table(self, noun: str) -> Table:
        return Table(self.account, self.region, SERVICE, noun)

    def rule_id(self, rule: str) -> str:
        return f"{self.name}\0{rule}"


class Bus:
    """One bus, as of one version of its row. Never changed."""

    __slots__ = ("place", "policy", "value")

    def __init__(self, place: Place, value: dict[str, Any]) -> None:
        self.place = place
        self.value = value
        self.policy: Mapping[str, Any] | None = json.loads(value["Policy"]) if value.get("Policy") else None


class Rule:
    """One rule, understood. Never changed."""

    __slots__ = ("arn", "is_enabled", "name", "pattern", "place", "targets", "value")

    def __init__(self, place: Place, name: str, value: dict[str, Any]) -> None:
        self.place = place
        self.name = name
        self.value = value
        self.arn = place.rule_arn(name)
        self.is_enabled = value["State"] != "DISABLED"
        self.pattern: Pattern | None = _compiled(value["EventPattern"]) if value.get("EventPattern") else None
        self.targets: Mapping[str, dict[str, Any]] = value["_targets"]


class Archive(NamedTuple):
    name: str
    value: dict[str, Any]
    pattern: Pattern | None


class Listening:
    """What a bus gives its events to."""

    __slots__ = ("_anything", "_by_source", "archives", "rules")

    def __init__(self, rules: list[Rule], archives: list[Archive]) -> None:
        self.rules = {rule.name: rule for rule in rules}
        self.archives = archives
        self._by_source: dict[str, list[Rule]] = {}
        self._anything: list[Rule] = []
        for rule in rules:
            if rule.pattern is None or not rule.is_enabled:
                continue
            if rule.pattern.sources is None:
                self._anything.append(rule)
            for source in rule.pattern.sources or ():
                self._by_source.setdefault(source, []).append(rule)

    def matching(self, event: Mapping[str, Any]) -> Iterator[Rule]:
        """The enabled rules whose pattern an event fits."""
        for some in (self._by_source.get(event["source"], ()), self._anything):
            for rule in some:
                if rule.pattern is not None and rule.pattern.matches(event):
                    yield rule


class Known(NamedTuple):
    """What was read since the store changed last."""

    generation: int
    buses: dict[Place, Bus | None]
    listening: dict[Place, Listening]


class Catalog:
    """Of one server."""

    def __init__(self, cloud: Cloud) -> None:
        self._store = cloud.store
        self._known = Known(-1, {}, {})

    def bus(self, place: Place) -> Bus | None:
        buses = self._current().buses
        if place not in buses:
            row = self._store.get(place.table("Bus"), place.name)
            is_there = row is not None or place.name == DEFAULT
            buses[place] = Bus(place, row.value if row is not None else {}) if is_there else None
        return buses[place]

    def listening(self, place: Place) -> Listening:
        known = self._current().listening
        if place not in known:
            rules = [
                Rule(place, row.id.partition("\0")[2], row.value) for row in self._rows(place.table("Rule"), f"{place.name}\0")
            ]
            archives = [
                Archive(row.id, row.value, _compiled(row.value["EventPattern"]) if row.value.get("EventPattern") else None)
                for row in self._rows(place.table("Archive"), "")
                if row.value["EventSourceArn"] == place.arn
            ]
            known[place] = Listening(rules, archives)
        return known[place]

    def _current(self) -> Known:
        """What may be believed now. Whoever reads puts it where he looked, which nobody looks at any more once the store has changed."""
        generation = self._store.generation(SERVICE)
        known = self._known
        if generation != known.generation or len(known.buses) > MOST_KNOWN:
            known = self._known = Known(generation, {}, {})
        return known

    def _rows(self, table: Table, prefix: str) -> Iterator[Row]:
        after = ""
        while rows := self._store.scan(table, prefix=prefix, after=after):
            yield from rows
            after = rows[-1].id


@lru_cache(10_000)
def _compiled(text: str) -> Pattern:
    return compile_pattern(text)


def catalog_of(cloud: Cloud) -> Catalog:
    found: Catalog | None = cloud.memory.get(_MEMORY)
    if found is None:
        found = cloud.memory.setdefault(_MEMORY, Catalog(cloud))
    return found


# -- by name ------------------------------------------------------------------------------------------------------------------


def place_of(ctx: Context, name: str | None) -> Place:
    """Where a name or an ARN points to, whether a bus is there or not. An ARN may name another account's, in this Region."""
    if name is None or not name.startswith("arn:"):
        return Place(ctx.account, ctx.region, name or DEFAULT)
    return place_in(name) or Place(ctx.account, ctx.region, name)


def place_in(arn: str) -> Place | None:
    """The bus that an ARN names."""
    parsed = Arn.parse(arn)
    if parsed is None or parsed.service != "events" or not parsed.resource.startswith("event-bus/"):
        return None
    return Place(parsed.account, parsed.region, parsed.resource.removeprefix("event-bus/"))


def find_bus(ctx: Context, name: str | None) -> Bus:
    """A bus by name or ARN; the default one for None. ResourceNotFoundException."""
    place = place_of(ctx, name)
    bus = catalog_of(ctx.cloud).bus(place) if place.region == ctx.region else None
    if bus is None:
        raise no_bus(place.name)
    return bus


def rows_at(ctx: Context, place: Place, noun: str) -> Rows:
    return ctx.records(noun, account=place.account, region=place.region, service=SERVICE)


def rows_of(ctx: Context, noun: str) -> Rows:
    """Of this call's own account and Region."""
    return ctx.records(noun, service=SERVICE)
