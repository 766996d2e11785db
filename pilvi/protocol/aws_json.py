"""AWS JSON 1.0 and 1.1: the operation in X-Amz-Target, one JSON object each way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from pilvi.core.http import Request, Response
from pilvi.core.streams import ByteStream
from pilvi.protocol import eventstream
from pilvi.protocol.shapes import Malformed, Shape
from pilvi.protocol.tree import Convert, TreeReader, TreeWriter

if TYPE_CHECKING:
    from pilvi.protocol.faults import Fault
    from pilvi.protocol.models import Operation, RequestDecoder, ResponseEncoder

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def parse(body: bytes) -> Any:
    """The JSON value in a body; an empty one is an empty object."""
    if not body:
        return {}
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(str(error)) from None


def write(value: Any) -> bytes:
    return _encode(value)


def parse_object(body: bytes) -> dict[str, Any]:
    value = parse(body)
    if type(value) is dict:
        return value
    if value is None:
        return {}
    raise Malformed("Unexpected value type in payload")


def compile_request(operation: Operation) -> RequestDecoder:
    shape = operation.input
    if shape is None:
        return lambda _request, _body, _params: {}
    read = TreeReader().compile(shape).convert
    assert read is not None

    def decode(_request: Request, body: bytes | ByteStream, _params: Mapping[str, str]) -> dict[str, Any]:
        result: dict[str, Any] = read(parse_object(body_bytes(body)))
        return result

    return decode


def body_bytes(body: bytes | ByteStream) -> bytes:
    """A body that is in memory."""
    return body if type(body) is bytes else body.read_now()  # type: ignore[union-attr]


def compile_response(operation: Operation) -> ResponseEncoder:
    shape = operation.output
    content_type = f"application/x-amz-json-{operation.service_model.json_version}"
    if shape is None:
        return lambda _result, request_id, request: Response(200, _headers(content_type, request_id, request), b"")
    if operation.event_output:
        return _event_response(operation, shape)
    convert = TreeWriter().compile(shape)
    assert convert is not None

    def encode(result: Mapping[str, Any], request_id: str, request: Request) -> Response:
        return Response(200, _headers(content_type, request_id, request), _encode(convert(result)))

    return encode


def _event_response(operation: Operation, shape: Shape) -> ResponseEncoder:
    """The first event carries the other members: AWS calls it initial-response."""
    name = operation.event_output
    writer = TreeWriter()
    head: Convert = writer.structure({key: member for key, member in shape.members.items() if key != name})
    pack = eventstream.compile_packer(shape.members[name], writer, write, "application/json")
    initial_type = f"application/x-amz-json-{operation.service_model.json_version}"

    def encode(result: Mapping[str, Any], request_id: str, _request: Request) -> Response:
        headers = [("Content-Type", eventstream.CONTENT_TYPE), ("x-amzn-RequestId", request_id)]
        first = eventstream.initial_response(write(head(result)), initial_type)
        return Response(200, headers, eventstream.stream(result.get(name), pack, first))

    return encode


def _headers(content_type: str, request_id: str, request: Request) -> list[tuple[str, str]]:
    """Clients of another JSON version are answered in theirs."""
    asked = request.headers.get("content-type", "")
    if asked.startswith("application/x-amz-json-"):
        content_type = asked.partition(";")[0].strip()
    return [("Content-Type", content_type), ("x-amzn-RequestId", request_id)]


def render_error(fault: Fault, request_id: str, request: Request) -> Response:
    headers = _headers(f"application/x-amz-json-{fault.json_version}", request_id, request)
    if fault.query_error:
        headers.append(("x-amzn-query-error", fault.query_error))
    return Response(fault.status, headers, write({"__type": fault.name, **error_members(fault)}))


def error_members(fault: Fault) -> dict[str, Any]:
    """The error's own members, its message under the name the model gives it."""
    if fault.shape is None:
        return {"message": fault.message, **_plain(fault.fields)}
    convert = TreeWriter().compile(fault.shape)
    assert convert is not None
    members: dict[str, Any] = convert(fault.fields)
    named = next((name for name in fault.shape.members if name.lower() in ("message", "errormessage")), None)
    wire = "message" if named is None else fault.shape.members[named].wire_name or named
    return {wire: fault.message, **members}


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None and not name.startswith("_")}
