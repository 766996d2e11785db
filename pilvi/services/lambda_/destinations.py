"""Where the results of asynchronous invocations go: destinations on success and failure, and dead-letter queues.

    event_queue: an event is done with --one transaction--> its row goes, an entry for each target comes --(pilvi.events)--> deliver

A result is written down together with the end of its event, so it survives kill -9, and each target is a lane of its own. It is sent as the
function's execution role. What fails lastingly is counted (DestinationDeliveryFailures, DeadLetterErrors) and kept as a dead letter of the
events room.

Source: developer guide, "Capturing records of Lambda asynchronous invocations", "Dead-letter queues".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pilvi.core.arn import Arn
from pilvi.core.errors import PilviError, ServiceError
from pilvi.core.service import Cloud, Context
from pilvi.events import GiveUp
from pilvi.events.targets import is_lasting, send, text_of
from pilvi.services.lambda_ import figures
from pilvi.services.lambda_.invocation import iso_z
from pilvi.services.lambda_.names import FunctionRef, invalid
from pilvi.services.lambda_.role import acting_as

if TYPE_CHECKING:
    from pilvi.events import Fact
    from pilvi.storage.records import Change

CONSUMER: Final = "lambda/destinations"
SUCCESS: Final = "OnSuccess"
FAILURE: Final = "OnFailure"
DEAD: Final = "DeadLetter"
ERROR_CHARACTERS: Final = 1024
_SEALED: Final = b"lambda-result"
_OPERATIONS: Final = {
    "sqs": "SendMessage",
    "sns": "Publish",
    "lambda": "InvokeFunction",
    "events": "PutEvents",
    "s3": "PutObject",
}
_DENIED: Final = ("AccessDenied", "AccessDeniedException", "AuthorizationError", "NotAuthorizedException")


# -- what is set --------------------------------------------------------------------------------------------------------------


def checked(ctx: Context, ref: FunctionRef, role: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """A DestinationConfig that can be kept: every target is of a kind that results go to, and lets the function's role in."""
    out: dict[str, Any] = {SUCCESS: {}, FAILURE: {}}
    for when in (SUCCESS, FAILURE):
        arn = (config.get(when) or {}).get("Destination") or ""
        if not arn:
            continue
        parsed = Arn.parse(arn)
        kinds = ("sqs", "sns", "lambda", "events") + (("s3",) if when == FAILURE else ())
        if parsed is None or parsed.service not in kinds or arn.endswith(".fifo"):
            raise invalid(f"The provided destination config DestinationConfig({when}=Destination={arn}) is invalid.")
        if parsed.service == "lambda" and arn.split(":")[:7] == ref.arn.split(":"):
            raise invalid("You can't specify the function as a destination for itself.")
        _probe(ctx, ref, role, arn)
        out[when] = {"Destination": arn}
    return out


def checked_dead_letters(ctx: Context, ref: FunctionRef, role: str, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """A DeadLetterConfig that can be kept; None for none."""
    arn = config.get("TargetArn") or ""
    if not arn:
        return None
    parsed = Arn.parse(arn)
    if parsed is None or parsed.service not in ("sqs", "sns") or arn.endswith(".fifo"):
        raise invalid(f"The DeadLetterConfig's TargetArn {arn} must be the ARN of a standard SQS queue or SNS topic.")
    _probe(ctx, ref, role, arn, what="The provided execution role")
    return {"TargetArn": arn}


def _probe(ctx: Context, ref: FunctionRef, role: str, arn: str, what: str = "The function's execution role") -> None:
    """The role may send there, and there is something. Requests that nothing comes of: who may not ask hears so first."""
    parsed = Arn.parse(arn)
    assert parsed is not None
    inside = acting_as(ctx.cloud, ref, role)[0]
    asks: dict[str, dict[str, Any]] = {
        "sqs": {"QueueUrl": f"{ctx.cloud.endpoint}/{parsed.account}/{parsed.resource}", "MessageBody": ""},
        "sns": {"TopicArn": arn, "Message": ""},
        "lambda": {"FunctionName": arn, "InvocationType": "DryRun"},
    }
    if parsed.service not in asks:
        return
    operation = "Invoke" if parsed.service == "lambda" else _OPERATIONS[parsed.service]
    try:
        inside.call(parsed.service, operation, **asks[parsed.service])
    except ServiceError as error:
        if error.code in _DENIED:
            name = _OPERATIONS[parsed.service]
            raise invalid(f"{what} does not have permissions to call {name} on {parsed.service.upper()}") from error
        if error.code == "NotImplemented" or ("Not" in error.code and ("Exist" in error.code or "Found" in error.code)):
            raise invalid(f"The destination ARN {arn} is invalid: {error.message}") from error


# -- what is told -------------------------------------------------------------------------------------------------------------


def record_of(
    now: datetime, ref: FunctionRef, request_id: str, condition: str, invokes: int, payload: bytes, answer: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The record of an invocation. answer: version, error ('' for none) and payload of the last run; None where none came to its end."""
    record: dict[str, Any] = {
        "version": "1.0",
        "timestamp": iso_z(now),
        "requestContext": {
            "requestId": request_id,
            "functionArn": f"{ref.arn}:{ref.qualifier or '$LATEST'}",
            "condition": condition,
            "approximateInvokeCount": invokes,
        },
        "requestPayload": _told(payload),
    }
    if answer is not None:
        context = {"statusCode": 200, "executedVersion": answer["version"]}
        record["responseContext"] = context | ({"functionError": answer["error"]} if answer["error"] else {})
        record["responsePayload"] = _told(answer["payload"])
    return record


def recording(cloud: Cloud, ref: FunctionRef, role: str, kind: str, arn: str, message: Mapping[str, Any], trace: str) -> Change:
    """The change that sends a message on its way. message: `body`, and `attributes` for dead letters."""
    fact = {
        "function": list(ref),
        "role": role,
        "kind": kind,
        "arn": arn,
        "sealed": cloud.keyring.seal(json.dumps(message).encode(), _SEALED),
        "trace": trace,
        "id": message["id"],
    }
    return cloud.events.recording(CONSUMER, arn, str(message["id"]), fact)


def dead_letter(request_id: str, payload: bytes, code: int, error: str) -> dict[str, Any]:
    """The event itself, with attributes that say what was wrong with it."""
    attributes: dict[str, Any] = {
        "RequestID": {"DataType": "String", "StringValue": request_id},
        "ErrorCode": {"DataType": "Number", "StringValue": str(code)},
    }
    if error:
        attributes["ErrorMessage"] = {"DataType": "String", "StringValue": error[:ERROR_CHARACTERS]}
    return {"id": request_id, "body": payload.decode(), "attributes": attributes}


def _told(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        return payload.decode(errors="replace")


# -- on its way ---------------------------------------------------------------------------------------------------------------


async def deliver(cloud: Cloud, fact: Fact) -> None:
    """Send one message, as the function's role."""
    ref = FunctionRef(*fact["function"])
    message = json.loads(cloud.keyring.unseal(fact["sealed"], _SEALED))
    try:
        ctx = acting_as(cloud, ref, fact["role"])[0].traced(fact["trace"])
        await _send(ctx, ref, fact, message)
    except PilviError as error:
        figures.add(cloud, ref, "DeadLetterErrors" if fact["kind"] == DEAD else "DestinationDeliveryFailures")
        if is_lasting(error):
            raise GiveUp(f"{fact['arn']}: {text_of(error)}") from error
        raise


async def _send(ctx: Context, ref: FunctionRef, fact: Fact, message: Mapping[str, Any]) -> None:
    arn = fact["arn"]
    if arn.split(":")[2] == "s3":
        await _put(ctx, ref, arn.rpartition(":")[2], message)
        return
    options: dict[str, Any] = {"MessageAttributes": message["attributes"]} if "attributes" in message else {}
    if arn.split(":")[2] == "events":
        how = "Success" if fact["kind"] == SUCCESS else "Failure"
        options = {
            "Source": "lambda",
            "DetailType": f"Lambda Function Invocation Result - {how}",
            "Resources": [arn, f"{ref.arn}:{ref.qualifier or '$LATEST'}"],
        }
    await send(ctx, arn, message["body"], options=options)


async def _put(ctx: Context, ref: FunctionRef, bucket: str, message: Mapping[str, Any]) -> None:
    """Source: developer guide, "Adding a destination": the object's name."""
    at = datetime.fromtimestamp(message["at"], UTC)
    key = f"aws/lambda/async/{ref.name}/{at:%Y/%m/%d}/{at:%Y-%m-%dT%H.%M.%S}-{message['id']}"
    await ctx.acall("s3", "PutObject", Bucket=bucket, Key=key, Body=message["body"].encode(), ContentType="application/json")
