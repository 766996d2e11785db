"""Calls of targets with a batch of events; each says which of them it did not take.

Source: EventBridge User Guide, "Amazon EventBridge Pipes targets", "Partial batch failure".
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from pilvi.core.arn import Arn
from pilvi.core.errors import Invalid, ServiceError, Unavailable
from pilvi.core.service import Context
from pilvi.core.streams import ByteStream
from pilvi.events.poller import Busy
from pilvi.events.targets import at, compact
from pilvi.services.pipes.template import dynamic, with_bodies

Pipe = Mapping[str, Any]


class Sent(NamedTuple):
    """What a target made of a batch."""

    failed: Sequence[int] = ()
    """Which of the texts it did not take, by their place."""
    failed_ids: Sequence[str] = ()
    """What it says itself it failed on, by the ids of the source's records."""
    answer: Any = None


class PipeError(ServiceError):
    """A stage did not do what it was asked."""


async def send(ctx: Context, pipe: Pipe, kind: str, events: Sequence[Any], texts: Sequence[str]) -> Sent:
    """Hand a batch to the target, as the pipe's role. texts: what each event became."""
    parameters = pipe.get("TargetParameters") or {}
    return await _SENDING[kind](at(ctx, pipe["Target"]), pipe, parameters, events, texts)


async def invoke(ctx: Context, arn: str, texts: Sequence[str], how: str) -> Any:
    """Call a function with a list of events; what it answered, parsed. Busy when it has no room, PipeError when it failed."""
    payload = compact([_json_of(text) for text in texts]).encode()
    where = at(ctx, arn)
    try:
        answer = await where.acall("lambda", "Invoke", FunctionName=arn, InvocationType=how, Payload=payload)
    except ServiceError as error:
        if error.code == "TooManyRequestsException":
            raise Busy("The function was throttled.") from error
        raise
    said = await _read(answer.get("Payload"))
    if answer.get("FunctionError"):
        raise PipeError("FunctionError", said.decode(errors="replace")[:1000])
    try:
        return json.loads(said) if said.strip() else None
    except ValueError:
        return said.decode(errors="replace")


async def call_out(ctx: Context, arn: str, parameters: Mapping[str, Any], event: Any, text: str) -> Any:
    """Call an API destination or a method of API Gateway with one event; what it answered, parsed."""
    given, where = parameters.get("HttpParameters") or {}, at(ctx, arn)
    if ":execute-api:" in arn:
        answer = await where.ainside("apigateway", "Invoke", **_method_call(arn, given, event), Body=text)
        if not 200 <= answer["Status"] < 300:
            raise PipeError("HttpError", f"The API answered with status {answer['Status']}.")
    else:
        answer = await where.ainside(
            "events", "InvokeApiDestination", Arn=arn, HttpParameters=given, Event=with_bodies(event), Body=text
        )
    said = answer["Body"].decode(errors="replace")
    return _json_of(said) if said.strip() else None


def _method_call(arn: str, given: Mapping[str, Any], event: Any) -> dict[str, Any]:
    """The method with the asterisks of its path filled in, headers and query."""
    head, *parts = arn.split("*")
    values = [quote(dynamic(value, event), safe="") for value in given.get("PathParameterValues") or ()]
    if len(values) < len(parts):
        raise Invalid(f"PathParameterValues has too few values for {arn}.")
    return {
        "Arn": head + "".join(value + part for value, part in zip(values, parts, strict=False)),
        "Headers": {name: dynamic(value, event) for name, value in (given.get("HeaderParameters") or {}).items()},
        "Query": {name: dynamic(value, event) for name, value in (given.get("QueryStringParameters") or {}).items()},
    }


async def _to_api(ctx: Context, pipe: Pipe, parameters: Mapping[str, Any], events: Sequence[Any], texts: Sequence[str]) -> Sent:
    answers = [await call_out(ctx, pipe["Target"], parameters, event, text) for event, text in zip(events, texts, strict=True)]
    return Sent(answer=answers)


async def _to_function(
    ctx: Context, pipe: Pipe, parameters: Mapping[str, Any], _events: Sequence[Any], texts: Sequence[str]
) -> Sent:
    how = (parameters.get("LambdaFunctionParameters") or {}).get("InvocationType") or "REQUEST_RESPONSE"
    if how == "FIRE_AND_FORGET":
        await invoke(ctx, pipe["Target"], texts, "Event")
        return Sent()
    answer = await invoke(ctx, pipe["Target"], texts, "RequestResponse")
    said = answer.get("batchItemFailures") if isinstance(answer, dict) else None
    if not said:
        return Sent(answer=answer)
    ids = [one.get("itemIdentifier") if isinstance(one, dict) else None for one in said] if isinstance(said, list) else [None]
    if not all(isinstance(one, str) and one for one in ids):
        raise PipeError("InvalidResponse", "The target's batchItemFailures cannot be understood.")
    return Sent(failed_ids=[str(one) for one in ids], answer=answer)


async def _to_queue(ctx: Context, pipe: Pipe, parameters: Mapping[str, Any], events: Sequence[Any], texts: Sequence[str]) -> Sent:
    parsed = Arn.parse(pipe["Target"])
    assert parsed is not None
    given = parameters.get("SqsQueueParameters") or {}
    entries = [
        {"Id": str(number), "MessageBody": text, **{name: dynamic(value, event) for name, value in given.items()}}
        for number, (event, text) in enumerate(zip(events, texts, strict=True))
    ]
    answer = await ctx.acall(
        "sqs", "SendMessageBatch", QueueUrl=f"{ctx.cloud.endpoint}/{parsed.account}/{parsed.resource}", Entries=entries
    )
    return Sent([int(one["Id"]) for one in answer.get("Failed") or ()], answer=answer)


async def _to_topic(ctx: Context, pipe: Pipe, _parameters: Mapping[str, Any], _events: Sequence[Any], texts: Sequence[str]) -> Sent:
    entries = [{"Id": str(number), "Message": text} for number, text in enumerate(texts)]
    answer = await ctx.acall("sns", "PublishBatch", TopicArn=pipe["Target"], PublishBatchRequestEntries=entries)
    return Sent([int(one["Id"]) for one in answer.get("Failed") or ()], answer=answer)


async def _to_bus(ctx: Context, pipe: Pipe, parameters: Mapping[str, Any], events: Sequence[Any], texts: Sequence[str]) -> Sent:
    given = parameters.get("EventBridgeEventBusParameters") or {}
    source = _source_name(pipe["Source"])
    entries = []
    for event, text in zip(events, texts, strict=True):
        entry: dict[str, Any] = {
            "EventBusName": pipe["Target"],
            "Detail": text,
            "Source": dynamic(given.get("Source") or f"Pipe {pipe['Name']}", event),
            "DetailType": dynamic(given.get("DetailType") or f"Event from aws:{source}", event),
        }
        if resources := given.get("Resources"):
            entry["Resources"] = [dynamic(one, event) for one in resources]
        if time := given.get("Time"):
            entry["Time"] = _time(dynamic(time, event))
        entries.append(entry)
    answer = await ctx.acall("events", "PutEvents", Entries=entries)
    return Sent([number for number, one in enumerate(answer.get("Entries") or ()) if one.get("ErrorCode")], answer=answer)


async def _to_logs(ctx: Context, pipe: Pipe, parameters: Mapping[str, Any], events: Sequence[Any], texts: Sequence[str]) -> Sent:
    parsed = Arn.parse(pipe["Target"])
    assert parsed is not None
    group = parsed.resource.removeprefix("log-group:").removesuffix(":*")
    given = parameters.get("CloudWatchLogsParameters") or {}
    now_ms = int(ctx.clock.time_s() * 1000)
    streams: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for number, (event, text) in enumerate(zip(events, texts, strict=True)):
        stream = dynamic(given.get("LogStreamName") or pipe["Name"], event)
        stamp = _milliseconds(dynamic(given["Timestamp"], event)) if given.get("Timestamp") else now_ms
        streams.setdefault(stream, []).append((number, {"timestamp": stamp, "message": text}))
    failed: list[int] = []
    for stream, lines in streams.items():
        lines.sort(key=lambda line: line[1]["timestamp"])
        answer = await put_lines(ctx, group, stream, [line for _, line in lines])
        failed += _rejected(answer.get("rejectedLogEventsInfo") or {}, [number for number, _ in lines])
    return Sent(sorted(failed))


async def put_lines(ctx: Context, group: str, stream: str, lines: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Into a log stream, made when it is not there."""
    params = {"logGroupName": group, "logStreamName": stream}
    try:
        return await ctx.acall("logs", "PutLogEvents", **params, logEvents=lines)
    except ServiceError as error:
        if error.code != "ResourceNotFoundException":
            raise
    try:
        await ctx.acall("logs", "CreateLogStream", **params)
    except ServiceError as error:
        if error.code != "ResourceAlreadyExistsException":
            raise
    return await ctx.acall("logs", "PutLogEvents", **params, logEvents=lines)


async def _to_sagemaker(
    ctx: Context, pipe: Pipe, parameters: Mapping[str, Any], events: Sequence[Any], _texts: Sequence[str]
) -> Sent:
    given = (parameters.get("SageMakerPipelineParameters") or {}).get("PipelineParameterList") or ()
    for event in events:
        values = [{"Name": dynamic(one["Name"], event), "Value": dynamic(one["Value"], event)} for one in given]
        await ctx.acall("sagemaker", "StartPipelineExecution", PipelineName=pipe["Target"], PipelineParameters=values)
    return Sent()


_SENDING: Final[Mapping[str, Callable[[Context, Pipe, Mapping[str, Any], Sequence[Any], Sequence[str]], Awaitable[Sent]]]] = {
    "lambda": _to_function,
    "sqs": _to_queue,
    "sns": _to_topic,
    "events/event-bus": _to_bus,
    "logs": _to_logs,
    "events/api-destination": _to_api,
    "execute-api": _to_api,
    "sagemaker/pipeline": _to_sagemaker,
}


async def _read(body: Any) -> bytes:
    if isinstance(body, ByteStream):
        return await body.read()
    if body is None or isinstance(body, bytes):
        return body or b""
    raise Unavailable("An answer could not be read.")


def _rejected(info: Mapping[str, Any], numbers: Sequence[int]) -> Sequence[int]:
    """Lines that CloudWatch Logs did not take: too old, expired, too new."""
    first = max(info.get("tooOldLogEventEndIndex", 0), info.get("expiredLogEventEndIndex", 0))
    last = info.get("tooNewLogEventStartIndex", len(numbers))
    return [*numbers[:first], *numbers[last:]]


def _time(text: str) -> datetime:
    try:
        found = datetime.fromtimestamp(int(text) / 1000, UTC) if text.isdigit() else datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        raise Invalid(f"{text} is no time.") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _milliseconds(text: str) -> int:
    if not text.isdigit():
        raise Invalid(f"{text} is no timestamp in milliseconds.")
    return int(text)


def _json_of(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _source_name(arn: str) -> str:
    parsed = Arn.parse(arn)
    return parsed.service if parsed is not None else "kafka"
