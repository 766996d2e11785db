"""Where REST protocols put members: labels of the path, query string, headers, status, payload. Shared by rest-json and rest-xml."""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pilvi.core.http import Request, Response
from pilvi.core.streams import ByteStream
from pilvi.protocol import eventstream, scalars
from pilvi.protocol.aws_json import body_bytes
from pilvi.protocol.query import parse_query
from pilvi.protocol.shapes import Malformed, Shape

if TYPE_CHECKING:
    from pilvi.protocol.models import Operation, RequestDecoder, ResponseEncoder

ReadText = Callable[[str], Any]
WriteText = Callable[[Any], str]
Bind = Callable[[Request, Mapping[str, str], dict[str, Any]], None]
ReadBody = Callable[["bytes | ByteStream", dict[str, Any]], None]
WriteBody = Callable[[Mapping[str, Any]], "tuple[bytes | ByteStream, str]"]
"""result -> body and its content type ('' for none)."""

_UNFIT = re.compile("[\r\n\0\u0100-\U0010ffff]")
_BREAKS = re.compile("[\r\n\0]")
_WIDE = re.compile("[\u0100-\U0010ffff]")
_OUTSIDE_REQUESTS = ("uri", "querystring", "header", "headers")
_OUTSIDE_RESPONSES = ("header", "headers", "statusCode")


def body_members(shape: Shape, outside: tuple[str, ...]) -> dict[str, Shape]:
    """The members that stand in the body: all but those in some places."""
    return {name: member for name, member in shape.members.items() if member.location not in outside}


def payload_of(shape: Shape) -> tuple[str, Shape] | None:
    """The member that is the whole body."""
    name = shape.traits.get("payload")
    return (name, shape.members[name]) if name else None


# -- requests -----------------------------------------------------------------------------------------------------------


def compile_request(operation: Operation, read_document: Any, read_members: Any, read_events: Any) -> RequestDecoder:
    """read_document(shape) reads a payload structure, read_members(shape, members) a body, read_events(shape) a stream."""
    shape = operation.input
    if shape is None:
        return lambda _request, _body, _params: {}
    binds = [bind for name, member in _located(shape, "uri", "headers") if (bind := _bind(name, member, operation)) is not None]
    asked = [bind for name, member in _located(shape, "querystring") if (bind := _bind(name, member, operation)) is not None]
    headers = _header_table(shape)
    read_body = _body_reader(shape, read_document, read_members, read_events)

    def decode(request: Request, body: bytes | ByteStream, params: Mapping[str, str]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for bind in binds:
            bind(request, params, out)
        if request.query:
            for bind in asked:
                bind(request, params, out)
        if headers:
            for wire, value in request.headers.items():
                entry = headers.get(wire)
                if entry is not None:
                    out[entry[0]] = value if entry[1] is None else entry[1](value)
        if read_body is not None:
            read_body(body, out)
        return out

    return decode


def _located(shape: Shape, *places: str) -> list[tuple[str, Shape]]:
    return [(name, member) for name, member in shape.members.items() if member.location in places]


def _header_table(shape: Shape) -> dict[str, tuple[str, ReadText | None]]:
    """Members by header: a request has fewer headers than S3's operations have members. None reads text as it is."""
    table: dict[str, tuple[str, ReadText | None]] = {}
    for name, member in shape.members.items():
        if member.location == "header":
            read = read_text(member, "rfc822")
            table[(member.wire_name or name).lower()] = (name, None if read is str else read)
    return table


def _bind(name: str, member: Shape, operation: Operation) -> Bind | None:
    wire = member.wire_name or name
    if member.location == "uri":
        return _bind_label(name, wire, read_text(member, "iso8601"))
    if member.location == "querystring":
        return _bind_query(name, wire, member, operation)
    if member.location == "headers":
        return _bind_headers(name, (member.wire_name or "").lower())
    return None


def _bind_label(name: str, wire: str, read: ReadText) -> Bind:
    is_text = read is str

    def bind(_request: Request, params: Mapping[str, str], out: dict[str, Any]) -> None:
        value = params.get(wire)
        if value is not None:
            out[name] = value if is_text else read(value)

    return bind


def _bind_query(name: str, wire: str, member: Shape, operation: Operation) -> Bind:
    if member.kind == "map":
        return _bind_query_map(name, member, operation)
    is_list = member.kind == "list"
    read = read_text(member.member if is_list else member, "iso8601")

    def bind(request: Request, _params: Mapping[str, str], out: dict[str, Any]) -> None:
        values = parse_query(request.query).get(wire)
        if values is not None:
            out[name] = [read(value) for value in values] if is_list else read(values[-1])

    return bind


def _bind_query_map(name: str, member: Shape, operation: Operation) -> Bind:
    """Every parameter that neither the template, nor another member, nor a presigned URL's signature claims."""
    assert operation.input is not None
    others = [(key, other) for key, other in operation.input.members.items() if other.location == "querystring" and key != name]
    claimed = {other.wire_name or key for key, other in others} | set(parse_query(operation.http_uri.partition("?")[2]))
    many = member.value.kind == "list"

    def is_free(key: str) -> bool:
        return key not in claimed and not key.startswith("X-Amz-")

    def bind(request: Request, _params: Mapping[str, str], out: dict[str, Any]) -> None:
        found = parse_query(request.query)
        rest = {key: list(values) if many else values[0] for key, values in found.items() if is_free(key)}
        if rest:
            out[name] = rest

    return bind


def _bind_headers(name: str, prefix: str) -> Bind:
    size = len(prefix)

    def bind(request: Request, _params: Mapping[str, str], out: dict[str, Any]) -> None:
        found = {key[size:]: value for key, value in request.headers.items() if key.startswith(prefix)}
        if found:
            out[name] = found

    return bind


_READ: Mapping[str, ReadText] = {
    "integer": scalars.parse_int,
    "long": scalars.parse_int,
    "float": scalars.parse_float,
    "double": scalars.parse_float,
    "boolean": scalars.parse_bool,
    "blob": scalars.parse_blob,
    "timestamp": scalars.parse_timestamp,
}


def read_text(shape: Shape, _timestamps: str) -> ReadText:
    """A reader of a value in a header, a label or the query string. Any timestamp format is taken."""
    if shape.kind == "list":
        read = read_text(shape.member, _timestamps)
        dates = shape.member.kind == "timestamp" and shape.member.traits.get("timestampFormat", "rfc822") == "rfc822"
        return lambda text: [read(item) for item in split_header(text, dates)]
    if shape.traits.get("jsonvalue"):
        return _read_json_value
    return _READ.get(shape.kind, str)


def _read_json_value(text: str) -> Any:
    try:
        return json.loads(b64decode(text))
    except ValueError:
        raise Malformed("a header does not hold base 64 of JSON") from None


def split_header(text: str, dates: bool = False) -> list[str]:
    """The items of a header that is a list; HTTP dates hold a comma of their own."""
    if not text:
        return []
    if dates:
        parts = text.split(",")
        return [f"{day.strip()},{rest}" for day, rest in zip(parts[::2], parts[1::2], strict=False)]
    if '"' not in text:
        return [item.strip() for item in text.split(",")]
    items, item, quoted, escaped = [], "", False, False
    for char in text:
        if escaped:
            item, escaped = item + char, False
        elif quoted and char == "\\":
            escaped = True
        elif char == '"':
            quoted = not quoted
        elif char == "," and not quoted:
            items.append(item.strip())
            item = ""
        else:
            item += char
    return [*items, item.strip()]


def _body_reader(shape: Shape, read_document: Any, read_members: Any, read_events: Any) -> ReadBody | None:
    payload = payload_of(shape)
    if payload is None:
        members = body_members(shape, _OUTSIDE_REQUESTS)
        return _members_reader(read_members(shape, members)) if members else None
    name, member = payload
    if member.is_eventstream:
        return _assign(name, read_events(member))
    if member.kind == "blob":
        return _assign(name, ByteStream.of if is_streaming(member) else body_bytes)
    if member.kind in ("string", "character"):
        return _text_reader(name)
    return _document_reader(name, read_document(member))


def is_streaming(member: Shape) -> bool:
    return bool(member.traits.get("streaming"))


def _assign(name: str, convert: Callable[[Any], Any]) -> ReadBody:
    def read(body: bytes | ByteStream, out: dict[str, Any]) -> None:
        out[name] = convert(body)

    return read


def _text_reader(name: str) -> ReadBody:
    def read(body: bytes | ByteStream, out: dict[str, Any]) -> None:
        data = body_bytes(body)
        if data:
            out[name] = data.decode("utf-8", "replace")

    return read


def _document_reader(name: str, convert: Callable[[bytes], Any]) -> ReadBody:
    def read(body: bytes | ByteStream, out: dict[str, Any]) -> None:
        data = body_bytes(body)
        if data:
            out[name] = convert(data)

    return read


def _members_reader(convert: Callable[[bytes], dict[str, Any]]) -> ReadBody:
    def read(body: bytes | ByteStream, out: dict[str, Any]) -> None:
        data = body_bytes(body)
        if data:
            out.update(convert(data))

    return read


# -- responses ----------------------------------------------------------------------------------------------------------


STATUS_BY_SERVICE = frozenset({"RestoreObject"})
"""Operations that answer one of several statuses which their model does not name; the result says it as `_status`."""


def compile_response(operation: Operation, write_document: Any, write_members: Any, write_events: Any) -> ResponseEncoder:
    """The mirror of compile_request; each writer gives a body and its content type.

    A few models give 204 to operations that answer members; a 204 has no body on the wire, so those answer 200.
    """
    shape = operation.output
    status = operation.response_status
    if shape is None:
        return lambda _result, request_id, _request: Response(status, [("x-amzn-RequestId", request_id)], b"")
    status_member = next((name for name, member in shape.members.items() if member.location == "statusCode"), None)
    if status_member is None and operation.name in STATUS_BY_SERVICE:
        status_member = "_status"
    write_headers = headers_writer(shape)
    has_type = _has_content_type(shape)
    write_body = _body_writer(shape, write_document, write_members, write_events)

    def encode(result: Mapping[str, Any], request_id: str, _request: Request) -> Response:
        headers = [("x-amzn-RequestId", request_id)]
        write_headers(result, headers)
        body, content_type = write_body(result)
        if content_type and not (has_type and any(name.lower() == "content-type" for name, _ in headers)):
            headers.append(("Content-Type", content_type))
        given = result.get(status_member) if status_member else None
        answered = 200 if status == 204 and body else status
        return Response(answered if given is None else int(given), headers, body)

    return encode


def _has_content_type(shape: Shape) -> bool:
    """Whether the service itself says what the body is."""
    return any(
        member.location == "header" and (member.wire_name or "").lower() == "content-type" for member in shape.members.values()
    )


def headers_writer(shape: Shape) -> Callable[[Mapping[str, Any], list[tuple[str, str]]], None]:
    """A function that appends the headers some members stand in."""
    table: dict[str, tuple[str, WriteText | None]] = {}
    for name, member in shape.members.items():
        if member.location == "header":
            table[name] = (member.wire_name or name, write_text(member))
        elif member.location == "headers":
            table[name] = (member.wire_name or "", None)
    find = table.get

    def write(result: Mapping[str, Any], headers: list[tuple[str, str]]) -> None:
        for name, value in result.items():
            entry = find(name)
            if entry is None or value is None:
                continue
            wire, render = entry
            if render is None:
                headers += [(f"{wire}{key}", _one_line(item)) for key, item in value.items()]
            else:
                text = value if type(value) is str and render is scalars.text_of else render(value)
                headers.append((wire, _one_line(text)))

    return write


def _one_line(text: str) -> str:
    """A header may not hold line breaks: whoever wrote them wanted another header. What HTTP cannot carry goes as RFC 2047
    has it, as S3 returns such metadata.
    """
    if text.isascii() and text.isprintable():
        return text
    if _UNFIT.search(text) is None:
        return text
    text = _BREAKS.sub(" ", text)
    return text if _WIDE.search(text) is None else f"=?UTF-8?B?{b64encode(text.encode()).decode()}?="


def write_text(shape: Shape) -> WriteText:
    """A writer of a header."""
    kind = shape.kind
    if kind == "list":
        render = write_text(shape.member)
        quote = shape.member.kind in ("string", "character")
        return lambda items: ", ".join([_quoted(render(item)) if quote else render(item) for item in items if item is not None])
    if shape.traits.get("jsonvalue"):
        return lambda value: b64encode(json.dumps(value, separators=(",", ":")).encode()).decode()
    if kind == "timestamp":
        writer = scalars.timestamp_writer(shape.traits.get("timestampFormat"), "rfc822")
        return lambda value: str(scalars.write_timestamp(writer, value))
    writers: Mapping[str, WriteText] = {
        "boolean": scalars.write_bool,
        "float": scalars.write_float,
        "double": scalars.write_float,
        "blob": scalars.write_blob,
    }
    return writers.get(kind, scalars.text_of)


def _quoted(text: str) -> str:
    if "," in text or '"' in text:
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return text


def _body_writer(shape: Shape, write_document: Any, write_members: Any, write_events: Any) -> WriteBody:
    payload = payload_of(shape)
    if payload is None:
        members = body_members(shape, _OUTSIDE_RESPONSES)
        if not members:
            return lambda _result: (b"", "")
        write: WriteBody = write_members(shape, members)
        return write
    name, member = payload
    if member.is_eventstream:
        pack = write_events(member)
        return lambda result: (eventstream.stream(result.get(name), pack), eventstream.CONTENT_TYPE)
    if member.kind == "blob":
        default = "" if _has_content_type(shape) else "application/octet-stream"
        return lambda result: (_raw(result.get(name)), default)
    if member.kind in ("string", "character"):
        return lambda result: ((result.get(name) or "").encode(), "text/plain")
    document = write_document(member)
    return lambda result: (b"", "") if result.get(name) is None else document(result[name])


def _raw(value: Any) -> bytes | ByteStream:
    if isinstance(value, (bytes, ByteStream)):
        return value
    return ByteStream.of(value) if value is not None else b""
