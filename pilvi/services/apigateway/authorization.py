"""Asking a Lambda authorizer before a method runs: 401 without identity, 403 when its policy says no, 500 when it answers nonsense.

Source: Developer Guide, "Use API Gateway Lambda authorizers", "Input to ..." and "Output from an API Gateway Lambda authorizer".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from pilvi.core.errors import PilviError
from pilvi.core.service import Access, Context
from pilvi.services.apigateway.authorizer import sources_of
from pilvi.services.apigateway.call import Call, Failure
from pilvi.services.apigateway.function import call_function, error_message
from pilvi.services.apigateway.integration import MOST_TIMEOUT_MS
from pilvi.services.apigateway.mapping import request_value
from pilvi.services.apigateway.proxy import event_of
from pilvi.services.apigateway.selection import is_selected

MOST_REMEMBERED = 10_000


class Verdict(NamedTuple):
    """An authorizer's answer."""

    policy: Mapping[str, Any]
    context: Mapping[str, str]
    """principalId and what the function added."""
    expires: float


async def authorize(ctx: Context, call: Call, authorizer: Mapping[str, Any], remembered: dict[tuple[str, ...], Verdict]) -> None:
    """Let a call through, with what the authorizer said in its context, or raise the Failure that answers it."""
    identity = identity_of(call, authorizer)
    key = (call.api_id, call.stage, authorizer["id"], *identity)
    verdict, ttl_s = remembered.get(key), authorizer["authorizerResultTtlInSeconds"]
    if verdict is None or verdict.expires <= ctx.clock.time_s():
        verdict = await asked(ctx, call, authorizer, identity)
        if len(remembered) >= MOST_REMEMBERED:
            remembered.clear()
        if ttl_s:
            remembered[key] = verdict
    decide(ctx, call, verdict)
    call.context["authorizer"] = dict(verdict.context)


def identity_of(call: Call, authorizer: Mapping[str, Any]) -> tuple[str, ...]:
    """The values at the identity sources; Failure (401) when one is missing, or a token is of the wrong form."""
    values = [request_value(call, source) for source in sources_of(authorizer)]
    if not all(values):
        raise unauthorized()
    form = authorizer.get("identityValidationExpression") or ""
    if form and authorizer["type"] == "TOKEN" and not is_selected(form, values[0] or ""):
        raise unauthorized()
    return tuple(value or "" for value in values)


async def asked(ctx: Context, call: Call, authorizer: Mapping[str, Any], identity: tuple[str, ...]) -> Verdict:
    """Run the function."""
    method_arn = call.arn_of(call.path)
    if authorizer["type"] == "TOKEN":
        event: dict[str, Any] = {"type": "TOKEN", "methodArn": method_arn, "authorizationToken": identity[0]}
    else:
        event = {"type": "REQUEST", "methodArn": method_arn, **event_of(call)}
        del event["body"], event["isBase64Encoded"]
    try:
        reply = await call_function(
            ctx,
            call,
            authorizer["authorizerUri"],
            credentials=authorizer.get("authorizerCredentials", ""),
            source_arn=authorizer_arn(call, authorizer["id"]),
            event=json.dumps(event).encode(),
            mode="RequestResponse",
            limit_ms=MOST_TIMEOUT_MS,
        )
    except Failure as failure:
        raise misconfigured(failure.reason) from None
    if reply.is_error:
        if error_message(reply.payload) == "Unauthorized":
            raise unauthorized()
        raise misconfigured(f"the authorizer failed: {error_message(reply.payload)}")
    return verdict_of(ctx, authorizer, reply.payload)


def verdict_of(ctx: Context, authorizer: Mapping[str, Any], payload: bytes) -> Verdict:
    """What the function answered; Failure (500) when it is not of the documented form."""
    try:
        answer = json.loads(payload)
        principal, policy, added = answer["principalId"], answer["policyDocument"], answer.get("context") or {}
        statements = policy["Statement"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise misconfigured("the authorizer's answer has no principalId and policyDocument") from None
    statements = [statements] if isinstance(statements, dict) else statements
    if not isinstance(principal, str) or not isinstance(statements, list) or not isinstance(added, dict):
        raise misconfigured("the authorizer's answer is malformed")
    if not all(isinstance(each, dict) and {"Effect", "Action", "Resource"} <= each.keys() for each in statements):
        raise misconfigured("the authorizer's policy is malformed")
    if any(isinstance(value, dict | list) for value in added.values()):
        raise misconfigured("the authorizer's context may hold only strings, numbers and booleans")
    context = {"principalId": principal} | {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in added.items()
    }
    document = {"Version": policy.get("Version", "2012-10-17"), "Statement": [{**each, "Principal": "*"} for each in statements]}
    return Verdict(document, context, ctx.clock.time_s() + authorizer["authorizerResultTtlInSeconds"])


def decide(ctx: Context, call: Call, verdict: Verdict) -> None:
    """Failure (403) unless the policy allows this very method."""
    access = Access("execute-api:Invoke", call.arn_of(call.path), verdict.policy, call.account)
    try:
        error = ctx.cloud.check(ctx, access)
    except PilviError as problem:
        raise misconfigured(f"the authorizer's policy is malformed: {problem}") from None
    if error is not None:
        explicit = " with an explicit deny" if "with an explicit deny" in error.message else ""
        text = json.dumps({"Message": f"User is not authorized to access this resource{explicit}"}, separators=(",", ":"))
        raise Failure(403, "AccessDeniedException", text)


def authorizer_arn(call: Call, id: str) -> str:
    """On whose behalf the function is invoked. Source: Developer Guide, permission of a Lambda authorizer."""
    return call.arn_of("").rsplit("/", 2)[0] + f"/authorizers/{id}"


def unauthorized() -> Failure:
    return Failure(401, "UnauthorizedException", '{"message":"Unauthorized"}')


def misconfigured(reason: str) -> Failure:
    return Failure(
        500, "AuthorizerConfigurationException", '{"message":null}', f"Execution failed due to configuration error: {reason}"
    )
