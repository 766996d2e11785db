"""Carrying out one call: request -> integration -> answer."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from pilvi.core.service import Context
from pilvi.services.apigateway.call import JSON, Answer, Call, Failure, bad_answer, broken, unsupported_type
from pilvi.services.apigateway.function import call_function, error_message
from pilvi.services.apigateway.integration import MOST_TIMEOUT_MS
from pilvi.services.apigateway.mapping import request_value, response_value
from pilvi.services.apigateway.proxy import answer_of, event_of, header_text, safe_name, status_of
from pilvi.services.apigateway.request_validator import check_request
from pilvi.services.apigateway.selection import is_selected
from pilvi.services.apigateway.template import TemplateError, render, render_response

log = logging.getLogger("pilvi.apigateway")


class Result(NamedTuple):
    """What came from behind."""

    payload: bytes
    error: str
    """The function's error message; '' when it succeeded."""
    headers: Mapping[str, str]
    """Lower-case names."""


async def run(ctx: Context, call: Call) -> Answer:
    """The answer to a call, gateway responses included. `ctx` is in the API's account and Region."""
    integration = call.method["methodIntegration"]
    call.note(f"Starting execution for request: {call.request_id}")
    call.note(f"HTTP Method: {call.verb}, Resource Path: {call.resource['path']}")
    call.note(f"Method request path: {noted(call.parameters)}")
    call.note(f"Method request query string: {noted({name: values[-1] for name, values in call.arguments.items()})}")
    call.note(f"Method request headers: {noted({name: values[-1] for name, values in call.headers.items()})}")
    call.note(f"Method request body before transformations: {call.text}")
    try:
        if validator := call.method.get("requestValidatorId"):
            check_request(call, call.api["_validators"][validator], call.api["_models"])
        if integration["type"] == "AWS_PROXY":
            answer = await proxied(ctx, call, integration)
        elif integration["type"] == "MOCK":
            answer = mocked(call, integration)
        else:
            answer = await mapped(ctx, call, integration)
    except Failure as failure:
        if failure.reason:
            call.note(failure.reason)
            log.info("%s %s: %s", call.request_id, call.arn, failure.reason)
        answer = failure.answer()
    except TemplateError as problem:
        reason = f"Execution failed due to configuration error: Unable to transform request: {problem}"
        call.note(reason)
        log.warning("%s %s: %s", call.request_id, call.arn, reason)
        answer = broken(reason).answer()
    call.note(f"Method response body after transformations: {answer.body.decode('utf-8', 'replace')}")
    call.note(f"Method response headers: {noted(dict(answer.headers))}")
    call.note(f"Method completed with status: {answer.status}")
    return answer


# -- the three kinds ----------------------------------------------------------------------------------------------------


async def proxied(ctx: Context, call: Call, integration: Mapping[str, Any]) -> Answer:
    """The whole request as an event, the whole answer from the function."""
    result = await invoked(ctx, call, integration, json.dumps(event_of(call)).encode(), "RequestResponse")
    if result.error:
        raise bad_answer(f"Lambda execution failed with status 200 due to customer function error: {result.error}.")
    return answer_of(call, result.payload)


async def mapped(ctx: Context, call: Call, integration: Mapping[str, Any]) -> Answer:
    """The body, or a template's text, as the event; the result through the integration responses."""
    body = request_body(call, integration)
    call.note(f"Endpoint request body after transformations: {body.decode('utf-8', 'replace')}")
    mode = "RequestResponse"
    for name, expression in (integration.get("requestParameters") or {}).items():
        if name.lower() == "integration.request.header.x-amz-invocation-type":
            mode = request_value(call, expression) or mode
    result = await invoked(ctx, call, integration, body or b"{}", mode)
    return mapped_back(call, integration, result)


def mocked(call: Call, integration: Mapping[str, Any]) -> Answer:
    """A template that gives {"statusCode": N} chooses among the integration responses."""
    body = request_body(call, integration)
    try:
        status = str(json.loads(body or b"{}")["statusCode"])
    except (ValueError, KeyError, TypeError):
        raise broken(
            "Execution failed due to configuration error: Unable to parse statusCode. It should be an integer that is "
            "defined in the request template."
        ) from None
    responses = integration.get("integrationResponses") or {}
    return mapped_back(call, integration, Result(b"", "", {}), selected(responses, status))


# -- towards the integration --------------------------------------------------------------------------------------------


def request_body(call: Call, integration: Mapping[str, Any]) -> bytes:
    """Through the template of the content type, or as it is where passing through is allowed."""
    templates = {key.lower(): text for key, text in (integration.get("requestTemplates") or {}).items()}
    if (template := templates.get(call.content_type)) is not None:
        return render(template, call, call.text).encode() if template else call.body
    behavior = integration["passthroughBehavior"]
    if behavior == "NEVER" or (behavior == "WHEN_NO_TEMPLATES" and templates):
        raise unsupported_type()
    return b"" if integration["type"] == "MOCK" else call.body


async def invoked(ctx: Context, call: Call, integration: Mapping[str, Any], event: bytes, mode: str) -> Result:
    """What the function behind this method answers."""
    if integration["httpMethod"] != "POST":
        raise broken(f"Execution failed due to configuration error: a function cannot be invoked by {integration['httpMethod']}")
    reply = await call_function(
        ctx,
        call,
        integration["uri"],
        credentials=integration.get("credentials", ""),
        source_arn=call.arn,
        event=event,
        mode=mode,
        limit_ms=integration.get("timeoutInMillis", MOST_TIMEOUT_MS),
    )
    return Result(reply.payload, error_message(reply.payload) if reply.is_error else "", {"content-type": JSON})


# -- back to the client -------------------------------------------------------------------------------------------------


def mapped_back(call: Call, integration: Mapping[str, Any], result: Result, chosen: Mapping[str, Any] | None = None) -> Answer:
    """Choose an integration response, and make its status, headers and body."""
    responses = integration.get("integrationResponses") or {}
    if chosen is None and result.error:
        chosen = selected(responses, result.error)
    if chosen is None:
        chosen = next((response for response in responses.values() if not response.get("selectionPattern")), None)
    if chosen is None or chosen["statusCode"] not in (call.method.get("methodResponses") or {}):
        raise broken(
            "Execution failed due to configuration error: No match for output mapping and no default output mapping configured."
        )
    text = result.payload.decode("utf-8", "replace")
    kind, body, override = response_body(call, chosen, text, result.payload)
    headers = [("Content-Type", kind)]
    for target, expression in (chosen.get("responseParameters") or {}).items():
        value = response_value(call, result.headers, text, expression)
        if value is not None:
            name = safe_name(target.removeprefix("method.response.header."))
            headers = [pair for pair in headers if pair[0].lower() != name.lower()] + [(name, header_text(value))]
    for name, value in override.get("header", {}).items():
        headers = [pair for pair in headers if pair[0].lower() != name.lower()] + [(safe_name(name), header_text(value))]
    return Answer(status_of(override.get("status", int(chosen["statusCode"]))), headers, body)


def selected(responses: Mapping[str, Any], message: str) -> Mapping[str, Any] | None:
    """The integration response whose pattern fits the message."""
    for response in responses.values():
        if response.get("selectionPattern") and is_selected(response["selectionPattern"], message):
            found: Mapping[str, Any] = response
            return found
    return None


def response_body(call: Call, chosen: Mapping[str, Any], text: str, payload: bytes) -> tuple[str, bytes, Mapping[str, Any]]:
    """Content type, body and overrides: by the template that fits what the client accepts (else the first), or untouched."""
    templates = chosen.get("responseTemplates") or {}
    accepted = (call.header("accept") or "").split(",")[0].split(";")[0].strip()
    kind = next((key for key in (accepted, JSON) if key in templates), next(iter(templates), JSON))
    template = templates.get(kind)
    if not template:
        return kind, payload, {}
    rendered, override = render_response(template, call, text)
    return kind, rendered.encode(), override


def noted(values: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{name}={value}" for name, value in values.items()) + "}"
