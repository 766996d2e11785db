"""Targets of schedules: which there are, what may be asked of them, and the calls they mean.

Templated targets are resources by ARN (pilvi.events.targets); universal ones are any operation of this cloud, with the parameters
that the input gives. What this cloud has not built is refused when the schedule is made.

Source: EventBridge Scheduler User Guide, "Using templated targets", "Using universal targets", "Adding context attributes".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pilvi.core.arn import Arn
from pilvi.core.errors import Invalid, NotFound, PilviError, ServiceError
from pilvi.core.service import Context
from pilvi.events.targets import call_for, compact, kind_of, send
from pilvi.services.scheduler.access import PRINCIPAL
from pilvi.services.scheduler.groups import group_arn

if TYPE_CHECKING:
    from pilvi.events import Fact

UNIVERSAL: Final = re.compile(r"arn:aws[a-z-]*:scheduler:::aws-sdk:([A-Za-z0-9-]+):([A-Za-z0-9]+)\Z")
READ_ONLY: Final = (
    "get",
    "describe",
    "list",
    "poll",
    "receive",
    "search",
    "scan",
    "query",
    "select",
    "read",
    "lookup",
    "discover",
    "validate",
    "batchGet",
    "batchDescribe",
    "batchRead",
    "transactGet",
    "adminGet",
    "adminList",
    "testMigration",
    "retrieve",
    "testConnection",
    "translateDocument",
    "isAuthorized",
    "invokeModel",
)
PARAMETERS: Final[Mapping[str, tuple[str, ...]]] = {
    "SqsParameters": ("sqs",),
    "EventBridgeParameters": ("events/event-bus",),
    "KinesisParameters": ("kinesis",),
    "SageMakerPipelineParameters": ("sagemaker/pipeline",),
    "EcsParameters": ("ecs/cluster",),
}
"""Which kinds of target these parameters are for."""
REQUIRED: Final[Mapping[str, str]] = {
    "events/event-bus": "EventBridgeParameters",
    "kinesis": "KinesisParameters",
    "ecs/cluster": "EcsParameters",
}
IN_JSON: Final = ("lambda", "states/stateMachine", "events/event-bus")
"""Kinds whose input must be JSON."""
RETRY: Final = {"MaximumEventAgeInSeconds": 86_400, "MaximumRetryAttempts": 185}
INPUT_BYTES: Final = 256 << 10


def checked(ctx: Context, target: Mapping[str, Any], group: str) -> dict[str, Any]:
    """A target as its schedule keeps it. ValidationException for what AWS does not take, NotImplemented for what is not built here."""
    arn, given = target["Arn"], target.get("Input")
    if given is not None and len(given.encode()) > INPUT_BYTES:
        raise Invalid(f"The Input exceeds the limit of {INPUT_BYTES} bytes.")
    if universal := UNIVERSAL.match(arn):
        _check_universal(ctx, universal[1], universal[2], given)
        kind = "universal"
    else:
        kind = _check_templated(ctx, arn, target, given)
    _check_parameters(target, kind)
    _check_role(ctx, target["RoleArn"], group)
    _check_dead_letters(target)
    return {**target, "RetryPolicy": {**RETRY, **(target.get("RetryPolicy") or {})}}


def _check_universal(ctx: Context, service: str, action: str, given: str | None) -> None:
    if action.lower().startswith(tuple(prefix.lower() for prefix in READ_ONLY)):
        raise Invalid(f"Unsupported operation {service}:{action}: read-only operations are not supported as targets.")
    try:
        parameters = json.loads(given or "{}")
    except ValueError:
        raise Invalid("Provided Input is not valid JSON.") from None
    if not isinstance(parameters, dict):
        raise Invalid("Provided Input is not a JSON object.")
    try:
        ctx.cloud.understand(service, action, {})
    except NotFound as error:
        raise Invalid(f"Provided Arn is not in correct format. {error.message}") from None


def _check_templated(ctx: Context, arn: str, target: Mapping[str, Any], given: str | None) -> str:
    parsed = Arn.parse(arn)
    if parsed is None or not parsed.service or not parsed.resource:
        raise Invalid("Provided Arn is not in correct format.")
    call = call_for(ctx, arn, given or "{}", options_of(target, ""))
    ctx.cloud.understand(call.service, call.operation, {})
    kind = kind_of(parsed)
    if kind in IN_JSON and given is not None and not _is_json(given):
        raise Invalid("Provided Input is not valid JSON.")
    if kind == "sqs" and arn.endswith(".fifo") != bool((target.get("SqsParameters") or {}).get("MessageGroupId")):
        raise Invalid("MessageGroupId is required for a FIFO queue, and only for one.")
    if kind == "sagemaker/pipeline" and given is not None:
        raise Invalid("Input is not supported for SageMaker pipelines; give SageMakerPipelineParameters.")
    return kind


def _check_parameters(target: Mapping[str, Any], kind: str) -> None:
    for name, kinds in PARAMETERS.items():
        if target.get(name) is not None and kind not in kinds:
            raise Invalid(f"{name} is not supported for this target.")
    if (wanted := REQUIRED.get(kind)) is not None and not target.get(wanted):
        raise Invalid(f"{wanted} is required for this target.")


def _check_role(ctx: Context, role: str, group: str) -> None:
    """It is this account's, and Scheduler may take it for schedules of this group."""
    parsed = Arn.parse(role)
    if parsed is None or parsed.account != ctx.account:
        raise ServiceError("AccessDeniedException", "Cross-account pass role is not allowed.", 403)
    try:
        as_role(ctx, role, group)
    except PilviError:
        raise Invalid("The execution role you provide must allow AWS EventBridge Scheduler to assume the role.") from None


def _check_dead_letters(target: Mapping[str, Any]) -> None:
    arn = (target.get("DeadLetterConfig") or {}).get("Arn") or ""
    if arn.endswith(".fifo"):
        raise Invalid("The dead-letter queue must be a standard queue.")


def as_role(ctx: Context, role: str, group: str) -> Context:
    """Scheduler under a schedule's role. Denied when that does not trust it."""
    inside = ctx.as_service(PRINCIPAL, source_arn=group_arn(ctx, group))
    return inside.as_role(role, f"scheduler-{ctx.ids.hex(16)}")


# -- invoking -----------------------------------------------------------------------------------------------------------------


def message_of(fact: Fact, given: str | None, attempt: int) -> str:
    """What the target gets: the input with its context attributes, or a default notification."""
    time = f"{datetime.fromtimestamp(fact['time_ms'] // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
    if given is None:
        return compact(_default(fact, time))
    values = {"schedule-arn": fact["arn"], "scheduled-time": time, "execution-id": fact["id"], "attempt-number": str(attempt)}
    for name, value in values.items():
        given = given.replace(f"<aws.scheduler.{name}>", value)
    return given


def _default(fact: Fact, time: str) -> dict[str, Any]:
    return {
        "version": "0",
        "id": fact["id"],
        "detail-type": "Scheduled Event",
        "source": "aws.scheduler",
        "account": fact["account"],
        "time": time,
        "region": fact["region"],
        "resources": [fact["arn"]],
        "detail": "{}",
    }


def options_of(target: Mapping[str, Any], schedule_arn: str) -> dict[str, Any]:
    """A templated target's parameters, by the names of the target's own call."""
    found: dict[str, Any] = {}
    for name in PARAMETERS:
        found |= target.get(name) or {}
    if "Source" in found and schedule_arn:
        found["Resources"] = [schedule_arn]
    return found


async def invoke(
    ctx: Context, target: Mapping[str, Any], message: str, schedule_arn: str, call: tuple[str, str, dict[str, Any]] | None
) -> None:
    """Make the call, as the role. call: what a universal target means (`understood`)."""
    if call is None:
        await send(ctx, target["Arn"], message, options=options_of(target, schedule_arn))
        return
    service, operation, parameters = call
    await ctx.acall(service, operation, **parameters)


def understood(ctx: Context, target: Mapping[str, Any], message: str) -> tuple[str, str, dict[str, Any]] | None:
    """The call that a universal target means; None for a templated one. For threads."""
    universal = UNIVERSAL.match(target["Arn"])
    if universal is None:
        return None
    try:
        parameters = json.loads(message) if message else {}
    except ValueError:
        raise Invalid("The input is no JSON any more once its context attributes have been filled in.") from None
    return ctx.cloud.understand(universal[1], universal[2], parameters)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
