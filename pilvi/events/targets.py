"""Targets: the resource behind an ARN gets a message. One place for everybody who delivers: S3 notifications, rules, schedules, pipes,
destinations and dead letters.

    await send(ctx.as_service("events.amazonaws.com", source_arn=rule_arn), "arn:aws:sqs:...:jobs", body, options={"MessageGroupId": "a"})

The context says who calls: a service acting for a resource, which the target's own policy must let in, or a role. What the target's
service refuses comes out as it refuses it; `is_lasting` says whether another attempt could help. A kind of target is one function in
KINDS that names the call to make.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pilvi.core.arn import Arn
from pilvi.core.errors import Denied, Invalid, NotFound, PilviError, ServiceError, Unsupported
from pilvi.events import GiveUp

if TYPE_CHECKING:
    from pilvi.core.service import Context

Options = Mapping[str, Any]
"""Members of the target's call besides the message, by that call's own names. Others are ignored: a rule may carry both."""


class Call(NamedTuple):
    service: str
    operation: str
    params: dict[str, Any]


async def send(ctx: Context, arn: str, body: str, *, options: Options | None = None) -> None:
    """Hand the message over, as this context's principal. Returns when the target has taken it."""
    call = call_for(ctx, arn, body, options or {})
    where = at(ctx, arn)
    if call.service == "logs":
        await _open_stream(where, call)
    answer = await where.acall(call.service, call.operation, **call.params)
    if answer.get("FailedEntryCount"):
        failed = next(entry for entry in answer["Entries"] if entry.get("ErrorCode"))
        raise ServiceError(failed["ErrorCode"], failed.get("ErrorMessage", ""))


def call_for(ctx: Context, arn: str, body: str, options: Options) -> Call:
    """The call that hands a message to the resource of this name. NotImplemented for kinds that nothing is sent to."""
    parsed = Arn.parse(arn)
    if parsed is None:
        raise ServiceError("InvalidParameterValue", f"{arn} is not a valid ARN.")
    kind = kind_of(parsed)
    if kind not in KINDS:
        raise ServiceError("NotImplemented", f"Targets of the kind {kind} are not built into this cloud yet.", 501)
    return KINDS[kind](ctx, parsed, body, options)


def at(ctx: Context, arn: str) -> Context:
    """The same caller, in the Region of the resource."""
    parsed = Arn.parse(arn)
    return ctx.at(ctx.account, parsed.region) if parsed is not None and parsed.region not in ("", ctx.region) else ctx


def kind_of(arn: Arn) -> str:
    """`sqs`; `events/event-bus` where a service has several kinds of resource."""
    if arn.service in ("events", "sagemaker", "states", "ecs", "batch"):
        return f"{arn.service}/{re.split('[:/]', arn.resource, maxsplit=1)[0]}"
    return arn.service


# -- kinds --------------------------------------------------------------------------------------------------------------------


def _queue(ctx: Context, arn: Arn, body: str, options: Options) -> Call:
    params = {"QueueUrl": f"{ctx.cloud.endpoint}/{arn.account}/{arn.resource}", "MessageBody": body}
    names = ("MessageGroupId", "MessageDeduplicationId", "MessageAttributes", "MessageSystemAttributes", "DelaySeconds")
    return Call("sqs", "SendMessage", params | _some(options, *names))


def _function(_ctx: Context, arn: Arn, body: str, options: Options) -> Call:
    params = {"FunctionName": str(arn), "InvocationType": "Event", "Payload": body.encode()}
    return Call("lambda", "Invoke", params | _some(options, "InvocationType", "ClientContext"))


def _topic(_ctx: Context, arn: Arn, body: str, options: Options) -> Call:
    names = ("Subject", "MessageStructure", "MessageAttributes", "MessageGroupId", "MessageDeduplicationId")
    return Call("sns", "Publish", {"TopicArn": str(arn), "Message": body} | _some(options, *names))


def _bus(_ctx: Context, arn: Arn, body: str, options: Options) -> Call:
    """The message becomes the event's detail."""
    entry = {"EventBusName": str(arn), "Detail": body}
    return Call("events", "PutEvents", {"Entries": [entry | _some(options, "Source", "DetailType", "Resources", "Time")]})


def _log_group(ctx: Context, arn: Arn, body: str, options: Options) -> Call:
    """To a stream of its own; or each source keeps one (LogStreamName)."""
    group = arn.resource.removeprefix("log-group:").removesuffix(":*")
    events = [{"timestamp": int(ctx.clock.time_s() * 1000), "message": body}]
    if "timestamp" in options:
        events[0]["timestamp"] = options["timestamp"]
    stream = options.get("LogStreamName") or ctx.ids.uuid()
    return Call("logs", "PutLogEvents", {"logGroupName": group, "logStreamName": stream, "logEvents": events})


def _pipeline(_ctx: Context, arn: Arn, _body: str, options: Options) -> Call:
    params: dict[str, Any] = {"PipelineName": arn.resource.removeprefix("pipeline/")}
    if given := options.get("PipelineParameterList"):
        params["PipelineParameters"] = given
    return Call("sagemaker", "StartPipelineExecution", params)


def _state_machine(_ctx: Context, arn: Arn, body: str, options: Options) -> Call:
    return Call("stepfunctions", "StartExecution", {"stateMachineArn": str(arn), "input": body} | _some(options, "name"))


def _stream(ctx: Context, arn: Arn, body: str, options: Options) -> Call:
    key = options.get("PartitionKey") or ctx.ids.uuid()
    return Call("kinesis", "PutRecord", {"StreamARN": str(arn), "Data": body.encode(), "PartitionKey": key})


def _delivery_stream(_ctx: Context, arn: Arn, body: str, _options: Options) -> Call:
    name = arn.resource.removeprefix("deliverystream/")
    return Call("firehose", "PutRecord", {"DeliveryStreamName": name, "Record": {"Data": body.encode()}})


KINDS: Final[Mapping[str, Callable[[Context, Arn, str, Options], Call]]] = {
    "sqs": _queue,
    "lambda": _function,
    "sns": _topic,
    "events/event-bus": _bus,
    "logs": _log_group,
    "sagemaker/pipeline": _pipeline,
    "states/stateMachine": _state_machine,
    "kinesis": _stream,
    "firehose": _delivery_stream,
}


def _some(options: Options, *names: str) -> dict[str, Any]:
    return {name: options[name] for name in names if options.get(name) is not None}


async def _open_stream(ctx: Context, call: Call) -> None:
    try:
        await ctx.acall("logs", "CreateLogStream", **{name: call.params[name] for name in ("logGroupName", "logStreamName")})
    except ServiceError as error:
        if error.code != "ResourceAlreadyExistsException":
            raise


# -- what went wrong ----------------------------------------------------------------------------------------------------------

_LASTING: Final = re.compile(
    r"AccessDenied|NotAuthorized|AuthorizationError|UnauthorizedOperation|NotExist|NotFound|NonExistent|^NoSuch|^Invalid|Validation"
    r"|^Missing|MalformedDetail|MalformedPolicy|^Unsupported|^NotImplemented$|UnknownOperation|TooLarge|TooLong|NotAuthorizedForSource"
    r"|^K[Mm][Ss](AccessDenied|Disabled|InvalidState|InvalidKeyUsage|NotFound|OptInRequired)"
)


def is_lasting(error: BaseException) -> bool:
    """Whether it does not pass by itself: denied, gone, invalid, not built. What it leaves is worth another attempt."""
    if isinstance(error, ServiceError):
        return _LASTING.search(error.code) is not None
    return isinstance(error, Denied | NotFound | Invalid | Unsupported | GiveUp)


def code_of(error: BaseException) -> str:
    """A word for it, as dead letters carry it."""
    if isinstance(error, ServiceError):
        return error.code
    return type(error).__name__


def text_of(error: BaseException) -> str:
    return (error.message if isinstance(error, PilviError) else str(error)) or code_of(error)


def compact(value: Any) -> str:
    """JSON as messages carry it: no spaces, nothing escaped that need not be."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
