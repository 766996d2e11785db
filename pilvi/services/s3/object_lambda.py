"""S3 Object Lambda: a function of the user's rewrites what GetObject, HeadObject and the two listings answer.

    GetObject   --event--> function --WriteGetObjectResponse--> the waiting client, while the function still writes
    HeadObject, ListObjects, ListObjectsV2 --event--> function --its return value--> the client

The function is called as the caller, with aws:CalledVia; access.py decides who comes this far and what goes past the functions.

Source: S3 User Guide, "Writing Lambda functions for S3 Object Lambda Access Points"; S3 API Reference, "List of Amazon S3 Object
Lambda error codes".
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any
from xml.etree import ElementTree

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.core.streams import ByteStream, Piece
from pilvi.services.s3.access import LENS, LENS_S, OBJECT_LAMBDA
from pilvi.services.s3.catalog import Lens
from pilvi.services.s3.errors import not_implemented
from pilvi.services.s3.handover import PipeClosed, Waiting, find_waiting, waitings_of
from pilvi.services.s3.object_lambda_event import event_of

ops = Operations()

FUNCTION_S = 60.0
"""How long a function may take until its answer begins. Source: S3 User Guide, "Restrictions and limitations"."""
MADE = "_made"
"""The member of results that holds an answer as it goes out (pilvi.protocol.quirks)."""
STATUSES = frozenset({200, 206, 304, 400, 401, 403, 404, 405, 409, 411, 412, 416, 500, 503})
"""Source: S3 API Reference, WriteGetObjectResponse, StatusCode."""
NOT_FORWARDED = frozenset({"RequestRoute", "RequestToken", "Body", "StatusCode", "ErrorCode", "ErrorMessage", "ContentLength"})
HEAD_HEADERS = frozenset(
    {
        "accept-ranges",
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-length",
        "content-range",
        "content-type",
        "etag",
        "expires",
        "last-modified",
        *(
            f"x-amz-{name}"
            for name in (
                "archive-status",
                "delete-marker",
                "expiration",
                "missing-meta",
                "mp-parts-count",
                "object-lock-legal-hold",
                "object-lock-mode",
                "object-lock-retain-until-date",
                "replication-status",
                "request-charged",
                "restore",
                "server-side-encryption",
                "server-side-encryption-aws-kms-key-id",
                "server-side-encryption-bucket-key-enabled",
                "server-side-encryption-customer-algorithm",
                "server-side-encryption-customer-key-md5",
                "storage-class",
                "tagging-count",
                "version-id",
            )
        ),
    }
)
"""What a function may say of an object, besides metadata. Source: S3 User Guide, "Working with HeadObject requests in Lambda"."""

_ERROR_CODE = re.compile(r"[A-Z][A-Za-z]+\Z")


# -- GetObject ------------------------------------------------------------------------------------------------------------


async def rewritten_get(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the function writes, from its first byte on.

    Errors: NotImplemented (501) - Range or partNumber, which the function is not said to know; LambdaPermissionError, LambdaNotFound,
    SlowDown, LambdaInvocationFailed - it cannot be called; LambdaRuntimeError, LambdaTimeout, LambdaResponseNotReceived,
    LambdaInvalidResponse - it did not answer; ConnectionClosedByRequester - it broke off before the first byte; the function's own.
    """
    lens: Lens = req[LENS]
    check_features(lens, "GetObject", req)
    function = lens.functions["GetObject"][0]
    token, waiting = ctx.ids.hex(128), Waiting(lens, f"io-{ctx.ids.lower(12)}", function.split(":")[4])
    waitings = waitings_of(ctx)
    waitings.by_token[token] = waiting
    me = ctx.calling_for(OBJECT_LAMBDA, duration_s=LENS_S)
    assert me.identity is not None
    event = event_of(ctx, me.identity, lens, "GetObject", req, {"outputRoute": waiting.route, "outputToken": token})
    run = asyncio.create_task(invoke(me, function, event))
    waitings.invocations.add(run)
    run.add_done_callback(waitings.invocations.discard)
    run.add_done_callback(lambda task: let_go(task, waiting))
    awaited: set[asyncio.Future[Any]] = {run, waiting.answered}
    try:
        await asyncio.wait(awaited, timeout=FUNCTION_S, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.answered.done():
            raise timed_out() if not run.done() else failure_of(run.exception()) or silent()
        return waiting.answered.result()
    finally:
        waitings.by_token.pop(token, None)


def let_go(run: asyncio.Task[Any], waiting: Waiting) -> None:
    """The function has ended: an answer that it has not written to its end will not be whole."""
    if not run.cancelled():
        run.exception()
    waiting.pipe.break_off()


@ops
async def write_get_object_response(ctx: Context, req: Mapping[str, Any]) -> None:
    """The function's answer to the GetObject that waits for it; streams to the client while it comes.

    req: RequestRoute, RequestToken (good once), Body, StatusCode, the headers of GetObject's answer, Metadata; or ErrorCode (letters,
    the first a capital) and ErrorMessage with an unsuccessful StatusCode.
    Errors: ValidationError - no request waits under this token, or for this account; a status, error code or checksums that do not fit
    (the client then gets LambdaInvalidResponse); the client has gone.
    Source: S3 API Reference, WriteGetObjectResponse.
    """
    token = req["RequestToken"]
    waiting = find_waiting(ctx, token)
    if waiting is None or waiting.is_taken or waiting.route != req["RequestRoute"] or waiting.account != ctx.account:
        raise invalid("The request token is not valid, or it has been used.")
    waiting.is_taken = True
    waitings_of(ctx).by_token.pop(token, None)
    body: ByteStream = req.get("Body") or ByteStream(b"")
    try:
        check_writing(req)
    except ServiceError as error:
        waiting.settle(invalid_response(error.message))
        raise
    pieces = aiter(body)
    try:
        first = await anext(pieces, b"")
    except BaseException:
        waiting.settle(ServiceError("ConnectionClosedByRequester", "The connection was closed while the response was read.", 400))
        raise
    if "ErrorCode" in req or "ErrorMessage" in req:
        return refuse(waiting, req, has_body=bool(first))
    waiting.settle(forwarded(req, waiting.body(body.length)))
    await pump(waiting, first, pieces)
    return None


def check_writing(req: Mapping[str, Any]) -> None:
    status = req.get("StatusCode", 200)
    if status not in STATUSES:
        raise invalid(f"The status code {status} is not allowed.")
    if len([name for name in req if name.startswith("Checksum")]) > 1:
        raise invalid("Only one checksum header can be specified at a time.")
    for name in ("ErrorCode", "ErrorMessage"):
        if name in req and status < 400:
            raise invalid(f"{name} cannot be used with a successful status code.")
    if "ErrorCode" in req and _ERROR_CODE.match(req["ErrorCode"]) is None:
        raise invalid("The error code must consist of letters and begin with a capital one.")


def refuse(waiting: Waiting, req: Mapping[str, Any], *, has_body: bool) -> None:
    """The client gets an error of the function's own."""
    if has_body:
        waiting.settle(invalid_response("ErrorCode and ErrorMessage cannot be used with a body."))
        raise invalid("ErrorCode and ErrorMessage cannot be used with a body.")
    waiting.settle(ServiceError(req.get("ErrorCode", "InternalError"), req.get("ErrorMessage", ""), req["StatusCode"]))


def forwarded(req: Mapping[str, Any], body: ByteStream) -> dict[str, Any]:
    answer = {name: value for name, value in req.items() if name not in NOT_FORWARDED and name[:1] != "_"}
    if body.length is not None:
        answer["ContentLength"] = body.length
    return {**answer, "Body": body, MADE: (req.get("StatusCode", 200), [], None)}


async def pump(waiting: Waiting, first: Piece, pieces: AsyncIterator[Piece]) -> None:
    """Hand on what comes, as fast as the client takes it."""
    try:
        if first:
            await waiting.pipe.put(first)
        async for piece in pieces:
            await waiting.pipe.put(piece)
        waiting.pipe.end()
    except PipeClosed:
        raise invalid("The request that this is the response to is not waiting any more.") from None
    finally:
        waiting.pipe.break_off()


# -- HeadObject and listings ----------------------------------------------------------------------------------------------


async def rewritten_head(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Status and headers that the function returns.

    Errors: as rewritten_get; LambdaInvalidResponse - no JSON object with statusCode, and headers with Content-Length.
    """
    lens: Lens = req[LENS]
    check_features(lens, "HeadObject", req)
    me = ctx.calling_for(OBJECT_LAMBDA, duration_s=LENS_S)
    assert me.identity is not None
    event = event_of(ctx, me.identity, lens, "HeadObject", req, {})
    run = asyncio.create_task(invoke(me, lens.functions["HeadObject"][0], event))
    waitings_of(ctx).invocations.add(run)
    run.add_done_callback(waitings_of(ctx).invocations.discard)
    await asyncio.wait({run}, timeout=FUNCTION_S)
    if not run.done():
        run.add_done_callback(lambda task: task.exception())
        raise timed_out()
    if (error := failure_of(run.exception())) is not None:
        raise error
    given = returned(run.result())
    headers = given.get("headers")
    if not isinstance(headers, dict):
        raise invalid_response("The function's response has no headers.")
    written = [(name, header_text(value)) for name, value in headers.items() if is_head_header(name) and value is not None]
    if not any(name.lower() == "content-length" and value.isdecimal() for name, value in written):
        raise invalid_response("The function's response has no Content-Length.")
    return {MADE: (given["statusCode"], written, b"")}


def is_head_header(name: str) -> bool:
    low = name.lower()
    return low in HEAD_HEADERS or (low.startswith("x-amz-meta-") and name.isascii() and name.isprintable())


def header_text(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if "\r" in text or "\n" in text:
        raise invalid_response("A header of the function's response holds a line break.")
    return text


def rewritten_list(ctx: Context, operation: str, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The listing that the function returns, as XML. In a thread.

    Errors: as rewritten_head.
    Differs: the function's own timeout holds, not one of 60 seconds.
    """
    lens: Lens = req[LENS]
    me = ctx.calling_for(OBJECT_LAMBDA, duration_s=LENS_S)
    assert me.identity is not None
    event = event_of(ctx, me.identity, lens, operation, req, {})
    given = returned(invoke_now(me, lens.functions[operation][0], event))
    text = given.get("listResultXml")
    if not isinstance(text, str):
        raise invalid_response("The function's response has no listResultXml.")
    data = text.encode("utf-8", "surrogatepass")
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError):
        raise invalid_response("The function's listResultXml is not well-formed.") from None
    if root.tag.rpartition("}")[2] != "ListBucketResult":
        raise invalid_response("The function's listResultXml is no ListBucketResult.")
    return {MADE: (given["statusCode"], [], data)}


def returned(payload: bytes) -> dict[str, Any]:
    """What a function returned; raises the error that it returned."""
    try:
        given = json.loads(payload)
    except ValueError:
        given = None
    if not isinstance(given, dict) or type(given.get("statusCode")) is not int or given["statusCode"] not in STATUSES:
        raise invalid_response("The function's response must be an object with a valid statusCode.")
    if given["statusCode"] >= 300 or given.get("errorCode"):
        status = given["statusCode"] if given["statusCode"] >= 300 else 500
        raise ServiceError(str(given.get("errorCode") or "InternalError"), str(given.get("errorMessage") or ""), status)
    return given


# -- the function ---------------------------------------------------------------------------------------------------------


def check_features(lens: Lens, operation: str, req: Mapping[str, Any]) -> None:
    """Errors: NotImplemented - a part of an object, or a key of the client's own, which functions must know how to treat."""
    for member, feature in (("Range", "Range"), ("PartNumber", "PartNumber")):
        if member in req and f"{operation}-{feature}" not in lens.features:
            raise not_implemented(member)
    if "SSECustomerAlgorithm" in req:
        raise not_implemented("x-amz-server-side-encryption-customer-algorithm")


async def invoke(me: Context, function: str, event: Mapping[str, Any]) -> bytes:
    """Run the function to its end, as the caller; what it returns."""
    for arn in names_of(function):
        try:
            answer = await me.acall("lambda", "Invoke", FunctionName=arn, Payload=json.dumps(event).encode())
        except ServiceError as error:
            if error.code == "AccessDeniedException" and arn == function != names_of(function)[-1]:
                continue
            raise refused(error) from error
        return checked(answer)
    raise AssertionError(function)


def invoke_now(me: Context, function: str, event: Mapping[str, Any]) -> bytes:
    """The same for threads."""
    for arn in names_of(function):
        try:
            answer = me.call("lambda", "Invoke", FunctionName=arn, Payload=json.dumps(event).encode())
        except ServiceError as error:
            if error.code == "AccessDeniedException" and arn == function != names_of(function)[-1]:
                continue
            raise refused(error) from error
        return checked(answer)
    raise AssertionError(function)


def names_of(function: str) -> tuple[str, ...]:
    """Policies speak of the function, or of its versions (`function:NAME:*`): without a version $LATEST is meant."""
    return (function, f"{function}:$LATEST") if function.count(":") == 6 else (function,)


def checked(answer: Mapping[str, Any]) -> bytes:
    """Errors: LambdaTimeout; LambdaRuntimeError."""
    payload: bytes = answer["Payload"]
    if "FunctionError" not in answer:
        return payload
    try:
        told = json.loads(payload)
    except ValueError:
        told = {}
    if isinstance(told, dict) and told.get("errorType") == "Sandbox.Timedout":
        raise timed_out()
    raise ServiceError("LambdaRuntimeError", "The Lambda function failed during execution.", 500)


def refused(error: ServiceError) -> ServiceError:
    """Why the function could not be called, in the words of S3."""
    told = f" (Service: AWSLambda; Error Code: {error.code}; Message: {error.message})"
    if error.code == "AccessDeniedException":
        return ServiceError("LambdaPermissionError", "The caller is not authorized to invoke the Lambda function." + told, 403)
    if error.code == "ResourceNotFoundException":
        return ServiceError("LambdaNotFound", "The AWS Lambda function was not found." + told, 404)
    if error.code == "TooManyRequestsException":
        return ServiceError("SlowDown", "Reduce your request rate for operations involving AWS Lambda." + told, 503)
    return ServiceError("LambdaInvocationFailed", "Lambda function invocation failed." + told, 400)


def failure_of(error: BaseException | None) -> BaseException | None:
    """An invocation's error as the client gets it."""
    if error is None or isinstance(error, ServiceError):
        return error
    return ServiceError("LambdaInvocationFailed", "Lambda function invocation failed.", 400)


def silent() -> ServiceError:
    return ServiceError("LambdaResponseNotReceived", "The Lambda exited without successfully calling WriteGetObjectResponse.", 500)


def timed_out() -> ServiceError:
    return ServiceError("LambdaTimeout", "The Lambda function did not respond in the allowed time.", 500)


def invalid(message: str) -> ServiceError:
    return ServiceError("ValidationError", message, 400)


def invalid_response(message: str) -> ServiceError:
    return ServiceError("LambdaInvalidResponse", message, 400)
