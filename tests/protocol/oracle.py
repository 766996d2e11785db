"""botocore as the oracle: requests as its serializers write them, responses as its parsers read them."""

from __future__ import annotations

import io
from typing import Any
from urllib.parse import quote, urlencode

from botocore.awsrequest import HeadersDict
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from pilvi.core.http import Request, Response
from pilvi.core.streams import ByteStream

_serializers: dict[str, Any] = {}
_parsers: dict[str, Any] = {}


def request_of(params: dict[str, Any], model: Any, protocol: str) -> Request:
    """The request botocore would send."""
    if protocol not in _serializers:
        _serializers[protocol] = create_serializer(protocol, include_validation=False)
    made = _serializers[protocol].serialize_to_request(params, model)
    path, _, query = made["url_path"].partition("?")
    given = made["query_string"]
    more = urlencode(given, doseq=True, quote_via=quote) if given else ""
    body = made["body"]
    if isinstance(body, dict):
        body = urlencode(body, doseq=True).encode()
    headers = {name.lower(): str(value) for name, value in made["headers"].items()}
    headers["host"] = "127.0.0.1:4566"
    return Request(made["method"], path, "&".join(part for part in (query, more) if part), headers, ByteStream(body or b""))


class _Raw(io.BytesIO):
    def stream(self) -> Any:
        yield self.read()


def parsed(response: Response, model: Any, protocol: str, shape: Any = None) -> dict[str, Any]:
    """What boto3 would return: the parsed response without metadata."""
    if protocol not in _parsers:
        _parsers[protocol] = create_parser(protocol)
    body = response.body if isinstance(response.body, bytes) else b"".join(response.body)
    raw: Any = body
    if response.status < 300 and (model.has_streaming_output or model.has_event_stream_output):
        raw = _Raw(body)
    facts = {
        "status_code": response.status,
        "headers": HeadersDict(dict(response.headers)),
        "body": raw,
        "context": {"operation_name": model.name},
    }
    result = _parsers[protocol].parse(facts, model.output_shape if shape is None else shape)
    return {name: value for name, value in result.items() if name != "ResponseMetadata"}


def plain(value: Any) -> Any:
    """Streams read, instants comparable."""
    if isinstance(value, ByteStream):
        return b"".join(value)
    if isinstance(value, io.BytesIO):
        return value.getvalue()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value
