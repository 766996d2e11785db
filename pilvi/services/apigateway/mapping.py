"""Mapping expressions and JSON paths: small words that name a part of a request or of an answer. Pure.

'text'  method.request.header.X  method.request.body.a.b  integration.response.header.X  context.requestId  stageVariables.x
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pilvi.services.apigateway.call import Call

STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\*)\]|\['([^']*)'\]|\[\"([^\"]*)\"\]")


def json_path(value: Any, path: str) -> Any:
    """`$.a[0].b` in a value, None where nothing is. ValueError for a path of another form."""
    if not path.startswith("$"):
        raise ValueError(f"JSON path {path}")
    at, steps = 1, []
    while at < len(path):
        step = STEP.match(path, at)
        if step is None:
            raise ValueError(f"JSON path {path}")
        steps.append(step)
        at = step.end()
    values, many = [value], False
    for step in steps:
        name = step[1] or step[3] or step[4]
        following: list[Any] = []
        for each in values:
            if step[2] is None or step[2] == "":
                if name == "*" and isinstance(each, dict):
                    many = True
                    following += each.values()
                elif isinstance(each, dict) and name in each:
                    following.append(each[name])
            elif isinstance(each, list):
                many = many or step[2] == "*"
                following += each if step[2] == "*" else each[int(step[2]) : int(step[2]) + 1]
        values = following
    if many:
        return values
    return values[0] if values else None


def request_value(call: Call, expression: str) -> str | None:
    """A request parameter's value for the integration; None when there is none."""
    if (common := common_value(call, expression)) is not None or not expression.startswith("method.request."):
        return common
    place, _, name = expression.removeprefix("method.request.").partition(".")
    if place == "header":
        return call.header(name)
    if place == "multivalueheader":
        return next((",".join(values) for key, values in call.headers.items() if key.lower() == name.lower()), None)
    if place in ("querystring", "multivaluequerystring"):
        values = call.arguments.get(name)
        return (values[-1] if place == "querystring" else ",".join(values)) if values else None
    if place == "path":
        return call.parameters.get(name)
    return body_value(call.text, name) if place == "body" else None


def response_value(call: Call, headers: Mapping[str, str], body: str, expression: str) -> str | None:
    """A response header's value; None when there is none."""
    if (common := common_value(call, expression)) is not None or not expression.startswith("integration.response."):
        return common
    place, _, name = expression.removeprefix("integration.response.").partition(".")
    if place in ("header", "multivalueheader"):
        return headers.get(name.lower())
    return body_value(body, name) if place == "body" else None


def common_value(call: Call, expression: str) -> str | None:
    if len(expression) >= 2 and expression[0] == expression[-1] == "'":
        return expression[1:-1]
    room, _, name = expression.partition(".")
    if room == "stageVariables":
        return call.variables.get(name)
    if room == "context":
        value: Any = call.context
        for key in name.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        return None if value is None else str(value)
    return None


def body_value(body: str, path: str) -> str | None:
    """The whole body, or a part of it; text as it is, anything else as JSON."""
    if not path:
        return body
    try:
        value = json_path(json.loads(body), f"$.{path}")
    except ValueError:
        return None
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value)
