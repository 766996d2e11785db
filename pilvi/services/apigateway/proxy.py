"""Lambda proxy integrations: the event a function gets, and the answer its result stands for. Pure.

Source: Developer Guide, "Input format of a Lambda function for proxy integration" and "Output format of a Lambda function for proxy
integration" (payload format 1.0).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from typing import Any

from pilvi.services.apigateway.call import JSON, Answer, Call, bad_answer

MEMBERS = frozenset({"statusCode", "headers", "multiValueHeaders", "body", "isBase64Encoded"})
REMAPPED = frozenset({"connection", "content-length", "date", "server", "transfer-encoding", "upgrade", "via", "www-authenticate"})
"""Headers that belong to the gateway. Source: Developer Guide, "Amazon API Gateway important notes"."""


def event_of(call: Call) -> dict[str, Any]:
    """The event, with every member AWS sends, null where there is nothing."""
    is_binary = matches_any(call.header("content-type") or JSON, call.binary_types)
    return {
        "resource": call.resource["path"],
        "path": call.path,
        "httpMethod": call.verb,
        "headers": {name: values[-1] for name, values in call.headers.items()} or None,
        "multiValueHeaders": dict(call.headers) or None,
        "queryStringParameters": {name: values[-1] for name, values in call.arguments.items()} or None,
        "multiValueQueryStringParameters": call.arguments or None,
        "pathParameters": dict(call.parameters) or None,
        "stageVariables": dict(call.variables) or None,
        "requestContext": call.context,
        "body": (base64.b64encode(call.body).decode() if is_binary else call.text) if call.body else None,
        "isBase64Encoded": bool(call.body) and is_binary,
    }


def answer_of(call: Call, payload: bytes) -> Answer:
    """The function's result as an answer; Failure (502) when it is not of the documented form."""
    try:
        result = json.loads(payload)
    except ValueError:
        raise malformed() from None
    if not isinstance(result, dict) or not result.keys() <= MEMBERS:
        raise malformed()
    status = status_of(result.get("statusCode", 200))
    body = result.get("body")
    if body is not None and not isinstance(body, str):
        raise malformed()
    headers = headers_of(result)
    if not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(("Content-Type", JSON))
    content = (body or "").encode()
    accepted = (call.header("accept") or "*/*").split(",")[0]
    if result.get("isBase64Encoded") and matches_any(accepted, call.binary_types):
        try:
            content = base64.b64decode(content, validate=True)
        except binascii.Error:
            raise malformed() from None
    return Answer(status, headers, content)


def malformed() -> Exception:
    return bad_answer("Execution failed due to configuration error: Malformed Lambda proxy response")


def status_of(value: Any) -> int:
    if isinstance(value, str) and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 100 <= value <= 599:
        raise malformed()
    return value


def headers_of(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Both header members together; where a name stands in both, the values of the multi-value one count once each."""
    single, multiple = result.get("headers") or {}, result.get("multiValueHeaders") or {}
    if not isinstance(single, dict) or not isinstance(multiple, dict):
        raise malformed()
    pairs: list[tuple[str, str]] = []
    for name, values in multiple.items():
        if not isinstance(values, list):
            raise malformed()
        pairs += [(safe_name(name), header_text(value)) for value in values]
    for name, value in single.items():
        pair = (safe_name(name), header_text(value))
        if pair not in pairs:
            pairs.append(pair)
    return pairs


def safe_name(name: str) -> str:
    """The gateway's own headers cannot be set from behind; AWS renames them."""
    if not name or not name.isascii() or any(character in name for character in "\r\n: "):
        raise malformed()
    return f"x-amzn-Remapped-{name}" if name.lower() in REMAPPED else name


def header_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    if not isinstance(value, str | int | float):
        raise malformed()
    text = str(value)
    if "\r" in text or "\n" in text or "\0" in text:
        raise malformed()
    return text


def matches_any(media_type: str, patterns: Iterable[str]) -> bool:
    """Whether a media type is one of `image/png`, `image/*`, `*/*`."""
    found = media_type.split(";")[0].strip().lower()
    major = found.split("/")[0]
    return any(pattern in ("*/*", f"{major}/*") or pattern == found for pattern in map(str.lower, patterns))
