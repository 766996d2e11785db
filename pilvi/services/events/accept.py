"""An event comes to a bus: who gets it, and what is written so that they do.

PutEvents, a service that tells (pilvi.events.told), a rule of another bus, a replay, a schedule
    -> rules that match: one entry for each of their targets; archives: one row     all in one transaction
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pilvi.core.errors import PilviError
from pilvi.events.targets import is_lasting, send
from pilvi.services.events import archiving, figures
from pilvi.services.events.buses import DEFAULT, Archive, Bus, Place, Rule, catalog_of
from pilvi.services.events.dead_letters import attributes_of
from pilvi.services.events.sealing import DataKey, as_events, data_key, sealed
from pilvi.services.events.transform import encoded

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.events import Fact
    from pilvi.storage.records import Change

log = logging.getLogger("pilvi.events")

CONSUMER: Final = "events/delivery"


class Accepted:
    """What is to be written, and whom to wake then."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.lanes: set[str] = set()

    def wake(self, cloud: Cloud) -> None:
        for lane in self.lanes:
            cloud.events.wake(CONSUMER, lane)


class Coming(NamedTuple):
    """What is known of an event beside itself."""

    at_ms: int = 0
    """When it happened, if more exactly known than the event says."""
    hops: int = 0
    """From how many buses it was passed on."""
    rules: Collection[str] = ()
    """ARNs of the only rules that are to get it, where any are named."""
    trace: str = ""
    """The tracing header it came with."""


FRESH: Final = Coming()


async def take_told(cloud: Cloud, fact: Fact) -> None:
    """A consumer: what a service told the default bus."""
    bus = catalog_of(cloud).bus(Place(fact["account"], fact["region"], DEFAULT))
    assert bus is not None
    await take_in(cloud, bus, dict(fact))


async def take_in(cloud: Cloud, bus: Bus, event: dict[str, Any], coming: Coming = FRESH) -> None:
    """Give an event to whoever listens on a bus; durable when awaited."""
    accepted = Accepted()
    await gather(cloud, bus, event, accepted, coming)
    if accepted.changes:
        await cloud.store.commit(accepted.changes)
        accepted.wake(cloud)


async def gather(cloud: Cloud, bus: Bus, event: dict[str, Any], accepted: Accepted, coming: Coming = FRESH) -> None:
    """The same, to be written together with others."""
    listening = catalog_of(cloud).listening(bus.place)
    matching = [rule for rule in listening.matching(event) if not coming.rules or rule.arn in coming.rules]
    archives = [one for one in listening.archives if archiving.wants(one, event)]
    if not matching and not archives:
        return
    if matching:
        try:
            key = await data_key(cloud, bus.place, bus.value.get("KmsKeyIdentifier"))
        except PilviError as error:
            await _lost(cloud, bus, event, error)
            return
        _add(cloud, matching, event, accepted, key, coming)
    for archive in archives:
        accepted.changes += await _kept(cloud, bus, archive, event, coming)


def for_rule(cloud: Cloud, rule: Rule, event: dict[str, Any]) -> Accepted:
    """An event of a rule's own schedule."""
    accepted = Accepted()
    _add(cloud, (rule,), event, accepted, None, FRESH)
    return accepted


def _add(
    cloud: Cloud, rules: Iterable[Rule], event: dict[str, Any], accepted: Accepted, key: DataKey | None, coming: Coming
) -> None:
    common = {"at": cloud.clock.time_s(), **sealed(cloud, event, key)}
    common |= {name: value for name, value in (("hops", coming.hops), ("trace", coming.trace)) if value}
    for rule in rules:
        figures.count(cloud, rule, "MatchedEvents")
        if rule.targets:
            figures.count(cloud, rule, "TriggeredRules")
        for target in rule.targets:
            fact = {**rule.place._asdict(), "rule": rule.name, "target": target, **common}
            lane = "/".join((*rule.place, rule.name, target))
            accepted.changes.append(cloud.events.recording(CONSUMER, lane, event["id"], fact))
            accepted.lanes.add(lane)


async def _kept(cloud: Cloud, bus: Bus, archive: Archive, event: dict[str, Any], coming: Coming) -> list[Change]:
    """What an archive writes down; nothing where its key cannot be used any more."""
    try:
        key = await data_key(cloud, bus.place, archive.value.get("KmsKeyIdentifier"))
    except PilviError as error:
        if not is_lasting(error):
            raise
        log.warning("%s: the archive %s misses an event, as its key cannot be used: %s", bus.place.arn, archive.name, error)
        return []
    return [archiving.addition(cloud, bus.place, archive, event, coming.at_ms, key)]


async def _lost(cloud: Cloud, bus: Bus, event: dict[str, Any], error: PilviError) -> None:
    """The bus's key cannot be used: its dead-letter queue gets the event, where it has one. What may pass is tried again."""
    if not is_lasting(error):
        raise error
    queue = (bus.value.get("DeadLetterConfig") or {}).get("Arn")
    if queue is None:
        log.warning("%s: an event is lost, as the key of the bus cannot be used: %s", bus.place.arn, error)
        return
    ctx = as_events(cloud, bus.place.account, bus.place.region, bus.place.arn)
    try:
        await send(ctx, queue, encoded(event), options={"MessageAttributes": attributes_of(bus.place.arn, "", error)})
    except PilviError as problem:
        if not is_lasting(problem):
            raise
        log.warning("%s: an event is lost, as %s does not take it: %s", bus.place.arn, queue, problem)
