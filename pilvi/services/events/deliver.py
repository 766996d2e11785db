"""Deliveries: one entry for each target of a rule that matched, at least once, each target in a lane of its own.

A target that cannot be reached is tried again for 24 hours and 185 times, or as its RetryPolicy says; what cannot help to try again, and
what was tried long enough, goes to the target's dead-letter queue, where it has one, else is dropped, as on AWS.

Source: EventBridge User Guide, "Retrying event delivery", "Event targets", "Sending and receiving events between AWS accounts".
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from pilvi.core.arn import Arn, partition_of
from pilvi.core.errors import PilviError, ServiceError
from pilvi.core.principal import Principal
from pilvi.core.service import Access, Context
from pilvi.events.targets import is_lasting, kind_of, send
from pilvi.services.events import accept, figures
from pilvi.services.events.buses import Place, Rule, catalog_of, place_in
from pilvi.services.events.call_out import CallFailed, call_destination
from pilvi.services.events.dead_letters import attributes_of
from pilvi.services.events.sealing import as_events, opened
from pilvi.services.events.transform import Facts, body_of, encoded
from pilvi.services.events.usage import count_chunks

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.events import Entry, Fact

log = logging.getLogger("pilvi.events")

FIRST_S: Final = 1.0
MOST_S: Final = 900.0
ATTEMPTS: Final = 185
AGE_S: Final = 86_400
MOST_HOPS: Final = 16
"""From bus to bus: a circle of rules comes to its end."""
SESSION: Final = "events"


async def deliver(cloud: Cloud, fact: Fact) -> None:
    """A consumer: hand an event to a target as the rule has it now. One that is gone meanwhile misses it."""
    found = find_target(cloud, fact)
    if found is None:
        return
    rule, target = found
    event = await opened(cloud, fact, rule.place)
    figures.count(cloud, rule, "InvocationAttempts")
    await hand_over(cloud, rule, target, event, fact)
    figures.count(cloud, rule, "SuccessfulInvocationAttempts")
    figures.count(cloud, rule, "Invocations")


async def hand_over(cloud: Cloud, rule: Rule, target: Mapping[str, Any], event: dict[str, Any], fact: Fact) -> None:
    ctx = caller(cloud, rule, target).traced(fact.get("trace", ""))
    arn = Arn.parse(target["Arn"])
    assert arn is not None
    kind = kind_of(arn)
    if kind == "events/event-bus":
        await to_bus(ctx, rule, target, event, fact.get("hops", 0))
        return
    body = body_of(target, event, Facts(rule.arn, rule.name, stamp(fact["at"])))
    if kind == "events/api-destination":
        await call_destination(ctx, target, event, body)
    else:
        await send(ctx, target["Arn"], body, options=options_of(kind, rule, target, event))
    count_chunks(cloud, rule.place, kind, len(body))


def find_target(cloud: Cloud, fact: Fact) -> tuple[Rule, dict[str, Any]] | None:
    place = Place(fact["account"], fact["region"], fact["name"])
    rule = catalog_of(cloud).listening(place).rules.get(fact["rule"])
    target = rule.targets.get(fact["target"]) if rule is not None else None
    return (rule, target) if rule is not None and target is not None else None


def caller(cloud: Cloud, rule: Rule, target: Mapping[str, Any]) -> Context:
    """EventBridge on behalf of the rule, or the role that the target names."""
    ctx = as_events(cloud, rule.place.account, rule.place.region, rule.arn)
    return ctx.as_role(target["RoleArn"], SESSION) if target.get("RoleArn") else ctx


def options_of(kind: str, rule: Rule, target: Mapping[str, Any], event: Mapping[str, Any]) -> dict[str, Any]:
    """What goes with the message, from the target's parameters."""
    if kind == "sqs":
        return dict(target.get("SqsParameters") or {})
    if kind == "logs":
        return {"LogStreamName": str(UUID(int=_number(f"{rule.arn} {target['Id']}")))}
    if kind == "sagemaker/pipeline":
        return dict(target.get("SageMakerPipelineParameters") or {})
    if kind == "kinesis":
        return {"PartitionKey": event["id"]}
    return {}


def _number(text: str) -> int:
    return zlib.crc32(text.encode()) << 96 | zlib.crc32(text[::-1].encode()) << 64 | zlib.adler32(text.encode()) << 32 | len(text)


def stamp(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%dT%H:%M:%SZ}"


# -- from bus to bus ------------------------------------------------------------------------------------------------------------


async def to_bus(ctx: Context, rule: Rule, target: Mapping[str, Any], event: dict[str, Any], hops: int) -> None:
    """The event as it is, to another bus: also of another account or Region, but not on to a third."""
    cloud, place = ctx.cloud, place_in(target["Arn"])
    bus = catalog_of(cloud).bus(place) if place is not None else None
    if place is None or bus is None:
        raise ServiceError("ResourceNotFoundException", f"{target['Arn']} does not exist.")
    check_hops(rule.place, place, event, hops)
    trace = ctx.trace
    if ctx.principal.kind == "service" and place.account != rule.place.account:
        arn = f"arn:{partition_of(place.region)}:iam::{rule.place.account}:root"
        ctx = Context(
            cloud,
            principal=Principal("root", rule.place.account, arn, rule.place.account),
            account=rule.place.account,
            region=place.region,
            service="events",
        )
    if ctx.principal.kind != "service":
        context = {
            "events:source": event["source"],
            "events:detail-type": event["detail-type"],
            "events:eventBusInvocation": "true",
        }
        ctx.to("events", "PutEvents").authorize(Access("events:PutEvents", place.arn, bus.policy, place.account, context))
    await accept.take_in(cloud, bus, event, accept.Coming(hops=hops + 1, trace=trace))


def check_hops(here: Place, there: Place, event: Mapping[str, Any], hops: int) -> None:
    if hops and there.account != here.account and event["account"] not in (here.account, there.account):
        raise ServiceError("THIRD_ACCOUNT_HOP_DETECTED", "An event that came from another account goes to no third one.")
    if hops and there.region != here.region and event["region"] not in (here.region, there.region):
        raise ServiceError("THIRD_REGION_HOP_DETECTED", "An event that came from another Region goes to no third one.")
    if hops >= MOST_HOPS:
        raise ServiceError("InvalidParameterValue", f"The event went from bus to bus {hops} times.")


# -- when it fails --------------------------------------------------------------------------------------------------------------


async def failed(cloud: Cloud, entry: Entry, error: Exception) -> float | None:
    """Seconds until the next attempt, or None: the dead-letter queue has it, or nobody."""
    found = find_target(cloud, entry.fact)
    if found is None:
        return None
    rule, target = found
    condition = exhausted(target.get("RetryPolicy") or {}, entry, cloud.clock.time_s())
    if not is_final(error) and not condition:
        figures.count(cloud, rule, "RetryInvocationAttempts")
        return max(delay_s(entry), error.retry_after_s if isinstance(error, CallFailed) else 0.0)
    if queue := (target.get("DeadLetterConfig") or {}).get("Arn"):
        await bury(cloud, rule, target, entry, error, "" if is_final(error) else condition, queue)
    else:
        log.warning("%s: %s misses an event: %s", rule.arn, target["Arn"], error)
    figures.count(cloud, rule, "Invocations")
    figures.count(cloud, rule, "FailedInvocations")
    return None


def is_final(error: Exception) -> bool:
    if isinstance(error, CallFailed):
        return error.is_final
    return is_lasting(error) or (isinstance(error, ServiceError) and error.code.startswith("THIRD_"))


def exhausted(policy: Mapping[str, Any], entry: Entry, now: float) -> str:
    """Which limit an entry has come to."""
    if entry.tries >= policy.get("MaximumRetryAttempts", ATTEMPTS):
        return "MaximumRetryAttempts"
    return "MaximumEventAgeInSeconds" if now - entry.at >= policy.get("MaximumEventAgeInSeconds", AGE_S) else ""


async def bury(
    cloud: Cloud, rule: Rule, target: Mapping[str, Any], entry: Entry, error: Exception, condition: str, queue: str
) -> None:
    event = await opened(cloud, entry.fact, rule.place)
    ctx = as_events(cloud, rule.place.account, rule.place.region, rule.arn)
    attributes = attributes_of(rule.arn, target["Arn"], error, condition, entry.tries)
    try:
        await send(ctx, queue, encoded(event), options={"MessageAttributes": attributes})
    except PilviError as problem:
        figures.count(cloud, rule, "InvocationsFailedToBeSentToDlq")
        if not is_lasting(problem):
            raise
        log.warning("%s: %s misses an event, and %s does not take it: %s", rule.arn, target["Arn"], queue, problem)
        return
    figures.count(cloud, rule, "InvocationsSentToDlq")


def delay_s(entry: Entry) -> float:
    """Doubling, spread so that many do not come back together."""
    base = min(FIRST_S * 2.0 ** min(entry.tries, 20), MOST_S)
    spread = zlib.crc32(f"{entry.id}{entry.tries}".encode()) / 0xFFFFFFFF
    return base * (0.75 + spread / 2)
