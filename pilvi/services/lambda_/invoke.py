"""Invoking functions: wait for the answer, leave an event, or only ask whether one may."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.core.streams import ByteStream
from pilvi.services.lambda_.catalog import catalog_of
from pilvi.services.lambda_.engine import engine_of
from pilvi.services.lambda_.names import function_ref

if TYPE_CHECKING:
    from types_boto3_lambda import type_defs as t

ops = Operations()

SYNC_BYTES = 6291556
"""Source: the number in AWS's own error; Lambda quotas say 6 MB."""
EVENT_BYTES = 1048576
"""Source: Lambda quotas, "Invocation payload": 1 MB for asynchronous requests."""

_PIECE_BYTES = 64 << 10

_json = msgspec.json.Decoder(msgspec.Raw)


@ops
async def invoke(ctx: Context, req: t.InvocationRequestTypeDef) -> Mapping[str, Any]:
    """Run a function.

    req: FunctionName (name or ARN), Qualifier (version or alias), Payload (JSON; 6 MB, events 1 MB), InvocationType
    (RequestResponse waits, Event keeps the payload and answers 202, DryRun answers 204), LogType (Tail: the last 4 KB of the
    log), ClientContext (base64 of JSON).
    Errors: ResourceNotFoundException; InvalidRequestContentException - the payload is no JSON; RequestEntityTooLargeException;
    TooManyRequestsException - reserved or account concurrency is used up; RecursiveInvocationException - the function's own doing came
    back to it 16 times; ServiceException - no worker can be started here.
    What the handler raises is no error of the call: FunctionError is Unhandled and the payload says what happened.
    Source: Lambda API reference, Invoke; developer guide, "Understanding the Lambda execution environment lifecycle".
    Differs: starting that takes longer than 10 s goes on within the function's timeout instead of beginning again; beyond 128
    workers at a time invocations wait for one.
    """
    kind = req.get("InvocationType") or "RequestResponse"
    ref = function_ref(ctx, req)
    target = catalog_of(ctx.cloud).target(ref, ctx.ids)
    payload = payload_of(req.get("Payload"), SYNC_BYTES if kind != "Event" else EVENT_BYTES)
    client_context = client_context_of(req.get("ClientContext"))
    if kind == "DryRun":
        return {"StatusCode": 204, "ExecutedVersion": target.version}
    engine = engine_of(ctx.cloud)
    if kind == "Event":
        await engine.events.accept(ref, ctx.request_id, payload, client_context, ctx.trace)
        return {"StatusCode": 202}
    ran, outcome = await engine.run(
        ref, ctx.request_id, payload, client_context, wants_tail=req.get("LogType") == "Tail", trace=ctx.trace
    )
    out: dict[str, Any] = {"StatusCode": 200, "Payload": outcome.payload, "ExecutedVersion": ran.version}
    if outcome.error:
        out["FunctionError"] = outcome.error
    if outcome.tail:
        out["LogResult"] = base64.b64encode(outcome.tail).decode()
    return out


@ops
async def invoke_with_response_stream(ctx: Context, req: t.InvokeWithResponseStreamRequestTypeDef) -> Mapping[str, Any]:
    """Run a function and send its answer in pieces.

    req and Errors: as Invoke; InvocationType RequestResponse or DryRun.
    Source: Lambda API reference, InvokeWithResponseStream.
    Differs: as on AWS with the Python runtimes, the first piece comes when the handler has returned.
    """
    answer = await invoke(ctx, req)
    if answer["StatusCode"] != 200:
        return {"StatusCode": answer["StatusCode"], "ExecutedVersion": answer["ExecutedVersion"]}
    payload, failed = answer["Payload"], answer.get("FunctionError")
    end: dict[str, Any] = {"ErrorCode": failed, "ErrorDetails": payload.decode(errors="replace")} if failed else {}
    if "LogResult" in answer:
        end["LogResult"] = answer["LogResult"]
    pieces = [] if failed else [payload[start : start + _PIECE_BYTES] for start in range(0, len(payload), _PIECE_BYTES)]
    return {
        "StatusCode": 200,
        "ExecutedVersion": answer["ExecutedVersion"],
        "ResponseStreamContentType": "application/json",
        "EventStream": [*({"PayloadChunk": {"Payload": piece}} for piece in pieces), {"InvokeComplete": end}],
    }


@ops
async def invoke_async(ctx: Context, req: t.InvokeAsyncRequestTypeDef) -> Mapping[str, Any]:
    """Leave an event, in the old way. Source: Lambda API reference, InvokeAsync (deprecated)."""
    ref = function_ref(ctx, req)
    catalog_of(ctx.cloud).target(ref, ctx.ids)
    payload = payload_of(await ByteStream.of(req.get("InvokeArgs")).read(), EVENT_BYTES)  # type: ignore[arg-type]
    await engine_of(ctx.cloud).events.accept(ref, ctx.request_id, payload, "", ctx.trace)
    return {"Status": 202}


def payload_of(given: Any, limit: int) -> bytes:
    """The event as bytes of JSON; an empty object when nothing was sent."""
    payload = given.encode() if isinstance(given, str) else bytes(given or b"")
    if len(payload) > limit:
        raise ServiceError(
            "RequestEntityTooLargeException",
            f"Request must be smaller than {limit} bytes for the InvokeFunction operation",
            413,
            Type="User",
        )
    if not payload.strip():
        return b"{}"
    try:
        _json.decode(payload)
    except msgspec.DecodeError as error:
        raise bad_content(f"Could not parse request body into json: Could not parse payload into json: {error}") from error
    return payload


def client_context_of(text: str | None) -> str:
    """The JSON in the header, on one line of ASCII."""
    if not text:
        return ""
    try:
        content = json.loads(base64.b64decode(text, validate=True))
        if not isinstance(content, dict):
            raise ValueError
    except (binascii.Error, ValueError) as error:
        raise bad_content("Client context must be a valid Base64-encoded JSON object.") from error
    return json.dumps(content)


def bad_content(message: str) -> ServiceError:
    return ServiceError("InvalidRequestContentException", message, Type="User")
