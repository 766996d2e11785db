"""The Lambda runtime API, as workers call it, under a path or a host that only the worker knows.

    /_pilvi/lambda/<token>/2018-06-01/runtime/invocation/next               long poll: the next event
    /_pilvi/lambda/<token>/2018-06-01/runtime/invocation/<id>/response      the handler's answer
    /_pilvi/lambda/<token>/2018-06-01/runtime/invocation/<id>/error         its exception
    /_pilvi/lambda/<token>/2018-06-01/runtime/init/error                    the module could not be loaded
    <token>.lambda-runtime.localhost/2018-06-01/...                         the same, for clients that know no path
    /_pilvi/lambda/zip.<ticket>/package.zip                                 a package, by the link GetFunction gave

Source: developer guide, "Using the Lambda runtime API for custom runtimes".
"""

from __future__ import annotations

import asyncio
import json

from pilvi.core.http import Request, Response
from pilvi.core.service import Context
from pilvi.services.lambda_ import download
from pilvi.services.lambda_.engine import running_engine
from pilvi.services.lambda_.invocation import RESPONSE_BYTES, Invocation, Outcome, failure
from pilvi.services.lambda_.worker import Worker

_API = "2018-06-01/runtime/"
_JSON = ("content-type", "application/json")
_ACCEPTED = b'{"status":"OK"}'


async def runtime_api(ctx: Context, request: Request) -> Response:
    """Answer one request of a worker."""
    if request.raw_path.startswith(download.PATH):
        token, _, rest = request.raw_path.removeprefix(download.PATH).partition("/")
    else:
        token, rest = request.host.partition(".")[0], request.raw_path[1:]
    if download.is_link(token):
        return await asyncio.to_thread(download.serve, ctx, token)
    engine = running_engine(ctx.cloud)
    worker = engine.pool.workers.get(token) if engine is not None else None
    if worker is None or not rest.startswith(_API):
        return refusal(403, "InvalidToken", "This is not a runtime of this server.")
    parts = rest.removeprefix(_API).split("/")
    if request.method == "GET" and parts == ["invocation", "next"]:
        invocation = await worker.next()
        return event(invocation, ctx.clock.real_s()) if invocation is not None else refusal(410, "Ended", "The worker shall end.")
    if request.method == "POST" and parts == ["init", "error"]:
        worker.failed_to_start(await request.body.read())
        return accepted()
    if request.method == "POST" and len(parts) == 3 and parts[0] == "invocation" and parts[2] in ("response", "error"):
        return await take_answer(worker, request, parts[1], is_error=parts[2] == "error")
    return refusal(404, "InvalidPath", f"There is nothing at {rest}.")


async def take_answer(worker: Worker, request: Request, request_id: str, *, is_error: bool) -> Response:
    body = request.body.data
    if body is None:
        body = await request.body.read()
    if len(body) > RESPONSE_BYTES:
        message = f"Response payload size exceeded maximum allowed payload size ({RESPONSE_BYTES} bytes)."
        worker.answer(request_id, failure("Function.ResponseSizeTooLarge", message))
        return refusal(413, "RequestEntityTooLarge", f"Exceeded maximum allowed payload size ({RESPONSE_BYTES} bytes).")
    if not worker.answer(request_id, Outcome(body, "Unhandled" if is_error else "")):
        return refusal(400, "InvalidRequestID", "Invalid request ID")
    return accepted()


def event(invocation: Invocation, now_s: float) -> Response:
    """An invocation as the runtime expects it."""
    headers = [
        ("lambda-runtime-aws-request-id", invocation.request_id),
        ("lambda-runtime-deadline-ms", str(int((now_s + invocation.target.timeout_s) * 1000))),
        ("lambda-runtime-invoked-function-arn", invocation.arn),
        _JSON,
    ]
    if invocation.trace:
        headers.append(("lambda-runtime-trace-id", invocation.trace))
    if invocation.client_context:
        headers.append(("lambda-runtime-client-context", invocation.client_context))
    return Response(200, headers, invocation.payload)


def accepted() -> Response:
    return Response(202, [_JSON], _ACCEPTED)


def refusal(status: int, kind: str, message: str) -> Response:
    return Response(status, [_JSON], json.dumps({"errorMessage": message, "errorType": kind}).encode())
