"""Invoking a function for an API: as API Gateway on behalf of a method or authorizer, or under a role."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any, NamedTuple

from pilvi.core.errors import Denied, PilviError, ServiceError
from pilvi.core.service import Context
from pilvi.core.streams import ByteStream
from pilvi.services.apigateway.call import Call, Failure, broken, timed_out, too_long
from pilvi.services.apigateway.integration import LAMBDA_URI

SERVICE = "apigateway.amazonaws.com"
VARIABLE = re.compile(r"\$\{stageVariables\.([a-zA-Z0-9_]+)\}")


class Reply(NamedTuple):
    payload: bytes
    is_error: bool
    """The handler raised, or its worker ended."""


async def call_function(
    ctx: Context, call: Call, uri: str, *, credentials: str, source_arn: str, event: bytes, mode: str, limit_ms: int
) -> Reply:
    """The function's reply; Failure when it may not or cannot be invoked, or takes longer than `limit_ms`."""
    uri = with_variables(call, uri)
    target = LAMBDA_URI.fullmatch(uri)
    if target is None:
        raise broken(f"Execution failed due to configuration error: cannot invoke {uri}")
    call.note(f"Endpoint request URI: {uri}")
    call.note(f"Sending request to {target['function']}")
    caller = ctx.as_service(SERVICE, source_arn=source_arn)
    if credentials:
        caller = await under_role(caller, with_variables(call, credentials))
    caller = caller.at(caller.account, target["region"])
    invocation = asyncio.ensure_future(
        caller.acall("lambda", "Invoke", FunctionName=target["function"], InvocationType=mode, Payload=event)
    )
    done, _ = await asyncio.wait({invocation}, timeout=limit_ms / 1000)
    if not done:
        invocation.add_done_callback(forget)  # the function runs on, as on AWS; nobody waits for it
        raise timed_out()
    try:
        output = invocation.result()
    except ServiceError as error:
        raise invocation_failure(error) from None
    except Denied:
        raise not_permitted() from None
    payload = await ByteStream.of(output.get("Payload")).read()
    call.note(f"Endpoint response body before transformations: {payload.decode('utf-8', 'replace')}")
    return Reply(payload, bool(output.get("FunctionError")))


def error_message(payload: bytes) -> str:
    """What went wrong in the function, in its own words."""
    try:
        message = json.loads(payload)["errorMessage"]
    except (ValueError, KeyError, TypeError):
        return payload.decode("utf-8", "replace") or "Unhandled"
    return message if isinstance(message, str) and message else json.dumps(message)


def with_variables(call: Call, text: str) -> str:
    return VARIABLE.sub(lambda found: call.variables.get(found[1], ""), text)


async def under_role(caller: Context, role: str) -> Context:
    try:
        return await asyncio.to_thread(caller.as_role, role, "BackplaneAssumeRoleSession")
    except PilviError:
        raise broken(
            "Execution failed due to configuration error: API Gateway does not have permission to assume the provided role"
        ) from None


def not_permitted() -> Failure:
    return broken("Execution failed due to configuration error: Invalid permissions on Lambda function")


def invocation_failure(error: ServiceError) -> Failure:
    if error.code in ("AccessDeniedException", "AccessDenied", "ResourceNotFoundException"):
        return not_permitted()
    if error.code in ("RequestEntityTooLargeException", "RequestTooLargeException"):
        return too_long()
    if error.code == "InvalidRequestContentException":
        return Failure(400, "BadRequestException", json.dumps({"message": error.message}), error.message)
    return broken(f"Lambda invocation failed: {error}")


def forget(invocation: asyncio.Future[Any]) -> None:
    """Take note of an error that nobody will read."""
    if not invocation.cancelled():
        invocation.exception()
