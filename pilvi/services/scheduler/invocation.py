"""Invocations: facts on their way from a schedule to its target, tried again as the schedule's retry policy says, and in the end a letter
in its dead-letter queue.

Source: EventBridge Scheduler User Guide, "Configuring a schedule's dead-letter queue"; API reference, RetryPolicy.
"""

from __future__ import annotations

import asyncio
import json
import logging
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pilvi.core.principal import Principal
from pilvi.core.service import Context
from pilvi.events import Entry, Fact
from pilvi.events.targets import code_of, is_lasting, send, text_of
from pilvi.services.scheduler import figures, usage
from pilvi.services.scheduler.access import PRINCIPAL
from pilvi.services.scheduler.sealing import opened
from pilvi.services.scheduler.target import UNIVERSAL, as_role, invoke, message_of, understood
from pilvi.storage.records import Change

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

log = logging.getLogger("pilvi.scheduler")

CONSUMER: Final = "scheduler/invocations"
FIRST_S: Final = 1.0
MOST_S: Final = 900.0
LETTER_BYTES: Final = 250 << 10
"""What a dead letter's body may be, beside its attributes."""
MOST_TOLD: Final = 10_000
_ATTEMPTS: Final = "scheduler:attempts"
_TOLD: Final = "scheduler:told"


def fact_of(cloud: Cloud, account: str, region: str, schedule: Mapping[str, Any], time_ms: int) -> dict[str, Any]:
    """What is to be done, so that it can be done when the schedule is gone."""
    fact = {
        "id": cloud.ids.hex(16),
        "account": account,
        "region": region,
        "arn": schedule["Arn"],
        "group": schedule["GroupName"],
        "time_ms": time_ms,
        "target": schedule["Target"],
    }
    if schedule.get("_sealed") is not None:
        fact["sealed"] = schedule["_sealed"]
    return fact


def recorded(cloud: Cloud, fact: Fact) -> Change:
    return cloud.events.recording(CONSUMER, lane_of(fact), fact["id"], fact)


def lane_of(fact: Fact) -> str:
    """A lane for each target: one that is slow or gone holds up no other. Of universal targets each schedule has its own."""
    arn = fact["target"]["Arn"]
    return f"{fact['account']}/{fact['region']}/{fact['arn'] if UNIVERSAL.match(arn) else arn}"


async def take(cloud: Cloud, fact: Fact) -> None:
    """Invoke the target, as the schedule's role."""
    figures.count(cloud, fact["account"], fact["region"], fact["group"], "InvocationAttemptCount")
    usage.count(cloud, fact["account"], fact["region"])
    attempt = _attempts(cloud).get(fact["id"], 1)
    ctx, message, call = await asyncio.to_thread(_prepared, cloud, fact, attempt)
    await invoke(ctx, fact["target"], message, fact["arn"], call)
    _attempts(cloud).pop(fact["id"], None)


async def failed(cloud: Cloud, entry: Entry, error: Exception) -> float | None:
    """Seconds until the next attempt; None when there is none, and the dead letter is written."""
    fact, now = entry.fact, cloud.clock.time_s()
    _count(cloud, fact, "TargetErrorThrottledCount" if "Thrott" in code_of(error) else "TargetErrorCount")
    policy = fact["target"]["RetryPolicy"]
    delay_s = _delay_s(entry)
    condition = None
    if not is_lasting(error):
        if entry.tries >= policy["MaximumRetryAttempts"]:
            condition = "MaximumRetryAttempts"
        elif now + delay_s - entry.at > policy["MaximumEventAgeInSeconds"]:
            condition = "MaximumEventAgeInSeconds"
        else:
            _attempts(cloud)[fact["id"]] = entry.tries + 2
            return delay_s
    _attempts(cloud).pop(fact["id"], None)
    _count(cloud, fact, "InvocationDroppedCount")
    _tell(cloud, fact, error)
    await _bury(cloud, entry, error, condition)
    return None


def _tell(cloud: Cloud, fact: Fact, error: Exception) -> None:
    """The first time a schedule misses its target for a reason is worth a warning."""
    told: set[tuple[str, str]] = cloud.memory.setdefault(_TOLD, set())
    reason = (fact["arn"], code_of(error))
    level = logging.INFO if reason in told else logging.WARNING
    if len(told) >= MOST_TOLD:
        told.clear()
    told.add(reason)
    log.log(level, "schedule %s: %s was not invoked: %s: %s", fact["arn"], fact["target"]["Arn"], code_of(error), text_of(error))


def _prepared(cloud: Cloud, fact: Fact, attempt: int) -> tuple[Context, str, tuple[str, str, dict[str, Any]] | None]:
    """The role's context, the message, and for a universal target the call."""
    ctx = _own_context(cloud, fact)
    target = fact["target"]
    message = message_of(fact, _given(ctx, fact), attempt)
    role = as_role(ctx, target["RoleArn"], fact["group"])
    return role, message, understood(role, target, message if target.get("Input") is not None or "sealed" in fact else "")


def _given(ctx: Context, fact: Fact) -> str | None:
    if "sealed" not in fact:
        given: str | None = fact["target"].get("Input")
        return given
    found: str | None = json.loads(opened(ctx.as_service(PRINCIPAL, source_arn=fact["arn"]), fact["sealed"], fact["arn"]))
    return found


async def _bury(cloud: Cloud, entry: Entry, error: Exception, condition: str | None) -> None:
    """The dead letter, where the schedule has a queue for them. Raises when that does not take it: the fact stays on record."""
    fact = entry.fact
    queue = (fact["target"].get("DeadLetterConfig") or {}).get("Arn")
    if queue is None:
        return
    try:
        ctx, message, _ = await asyncio.to_thread(_letter, cloud, fact, entry.tries + 1)
        is_cut = len(message.encode()) > LETTER_BYTES
        if is_cut:
            message = message.encode()[:LETTER_BYTES].decode(errors="ignore")
            _count(cloud, fact, "InvocationsSentToDeadLetterCount_Truncated_MessageSizeExceeded")
        options = {"MessageAttributes": _attributes(entry, error, condition, is_cut)}
        await send(ctx, queue, message, options=options)
    except Exception as refused:
        _count(cloud, fact, "InvocationsFailedToBeSentToDeadLetterCount")
        _count(cloud, fact, f"InvocationsFailedToBeSentToDeadLetterCount_{code_of(refused)}")
        raise
    _count(cloud, fact, "InvocationsSentToDeadLetterCount")


def _letter(cloud: Cloud, fact: Fact, attempt: int) -> tuple[Context, str, None]:
    ctx = _own_context(cloud, fact)
    return as_role(ctx, fact["target"]["RoleArn"], fact["group"]), message_of(fact, _given(ctx, fact), attempt), None


def _attributes(entry: Entry, error: Exception, condition: str | None, is_cut: bool) -> dict[str, Any]:
    fact = entry.fact
    found = {
        "ERROR_CODE": code_of(error),
        "ERROR_MESSAGE": text_of(error)[:4096],
        "EXECUTION_ID": fact["id"],
        "IS_PAYLOAD_TRUNCATED": "true" if is_cut else "false",
        "RETRY_ATTEMPTS": str(entry.tries),
        "SCHEDULED_TIME": f"{datetime.fromtimestamp(fact['time_ms'] // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}",
        "SCHEDULE_ARN": fact["arn"],
        "TARGET_ARN": fact["target"]["Arn"],
    }
    if condition is not None:
        found["EXHAUSTED_RETRY_CONDITION"] = condition
    return {name: {"DataType": "String", "StringValue": value} for name, value in found.items()}


def _own_context(cloud: Cloud, fact: Fact) -> Context:
    principal = Principal("service", fact["account"], "", PRINCIPAL, PRINCIPAL)
    return Context(cloud, principal=principal, account=fact["account"], region=fact["region"], service="scheduler")


def _count(cloud: Cloud, fact: Fact, name: str) -> None:
    figures.count(cloud, fact["account"], fact["region"], fact["group"], name)


def _attempts(cloud: Cloud) -> dict[str, int]:
    """Which attempt the next one is, of those that failed. A server that was killed counts anew."""
    found: dict[str, int] = cloud.memory.setdefault(_ATTEMPTS, {})
    return found


def _delay_s(entry: Entry) -> float:
    """Doubling, spread by a quarter."""
    base = min(FIRST_S * 2.0 ** min(entry.tries, 20), MOST_S)
    return base * (0.875 + zlib.crc32(entry.id.encode()) / 0xFFFFFFFF / 4)
