"""Smithy RPC v2 CBOR: the operation in the path, one CBOR map each way.

The codec knows the part of RFC 8949 that AWS's data model needs: integers, byte and text strings, arrays and maps of
definite and indefinite length, tag 1 (epoch time), bignums, floats of three sizes, booleans and null.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pilvi.core.http import Request, Response
from pilvi.core.streams import ByteStream
from pilvi.protocol import eventstream, scalars
from pilvi.protocol.aws_json import body_bytes, error_members
from pilvi.protocol.shapes import Malformed, Shape
from pilvi.protocol.tree import Convert, Reader, TreeReader, TreeWriter, refusal_of

if TYPE_CHECKING:
    from pilvi.protocol.faults import Fault
    from pilvi.protocol.models import Operation, RequestDecoder, ResponseEncoder

CONTENT_TYPE = "application/cbor"
_BREAK = object()
_MAX_DEPTH = 200


def loads(data: bytes) -> Any:
    """The one value these bytes hold."""
    try:
        value, end = _read(data, 0, 0)
    except (IndexError, struct.error, UnicodeDecodeError):
        raise Malformed("CBOR ends too early or holds invalid text") from None
    if value is _BREAK or end != len(data):
        raise Malformed("CBOR holds more than one value")
    return value


def _length(data: bytes, info: int, at: int) -> tuple[int, int]:
    if info < 24:
        return info, at
    if info > 27:
        raise Malformed("CBOR holds a reserved length")
    end = at + (1 << (info - 24))
    if end > len(data):
        raise IndexError
    return int.from_bytes(data[at:end], "big"), end


def _slice(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise IndexError
    return data[at : at + size]


def _read(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    if depth > _MAX_DEPTH:
        raise Malformed("CBOR is nested too deeply")
    initial = data[at]
    major, info = initial >> 5, initial & 31
    at += 1
    if major == 7:
        return _read_simple(data, info, at)
    if info == 31:
        return _read_indefinite(data, major, at, depth)
    size, at = _length(data, info, at)
    if major == 0:
        return size, at
    if major == 1:
        return -1 - size, at
    if major == 2:
        return _slice(data, at, size), at + size
    if major == 3:
        return _slice(data, at, size).decode(), at + size
    if major == 4:
        return _read_array(data, size, at, depth)
    if major == 5:
        return _read_map(data, size, at, depth)
    value, at = _read(data, at, depth + 1)
    return _tagged(size, value), at


def _read_array(data: bytes, size: int, at: int, depth: int) -> tuple[Any, int]:
    items = []
    for _ in range(size):
        item, at = _read(data, at, depth + 1)
        items.append(item)
    return items, at


def _read_map(data: bytes, size: int, at: int, depth: int) -> tuple[Any, int]:
    found = {}
    for _ in range(size):
        key, at = _read(data, at, depth + 1)
        found[_key(key)], at = _read(data, at, depth + 1)
    return found, at


def _key(value: Any) -> str:
    if type(value) is not str:
        raise Malformed("CBOR map keys must be text")
    return value


def _read_simple(data: bytes, info: int, at: int) -> tuple[Any, int]:
    if info == 20 or info == 21:
        return info == 21, at
    if info == 22 or info == 23:
        return None, at
    if info == 25:
        return struct.unpack_from(">e", data, at)[0], at + 2
    if info == 26:
        return struct.unpack_from(">f", data, at)[0], at + 4
    if info == 27:
        return struct.unpack_from(">d", data, at)[0], at + 8
    if info == 31:
        return _BREAK, at
    raise Malformed("CBOR holds an unknown simple value")


def _read_indefinite(data: bytes, major: int, at: int, depth: int) -> tuple[Any, int]:
    items: list[Any] = []
    if major not in (2, 3, 4, 5):
        raise Malformed("CBOR holds a reserved length")
    while True:
        item, at = _read(data, at, depth + 1)
        if item is _BREAK:
            break
        items.append(item)
    if major == 4:
        return items, at
    if major == 5:
        if len(items) % 2:
            raise Malformed("CBOR map has a key without a value")
        return {_key(key): value for key, value in zip(items[::2], items[1::2], strict=True)}, at
    wanted = bytes if major == 2 else str
    if any(type(item) is not wanted for item in items):
        raise Malformed("CBOR string holds chunks of another kind")
    return (b"" if major == 2 else "").join(items), at


def _tagged(tag: int, value: Any) -> Any:
    if value is _BREAK:
        raise Malformed("CBOR tag without a value")
    if tag == 1:
        return scalars.parse_timestamp(value)
    if tag in (2, 3) and type(value) is bytes:
        number = int.from_bytes(value, "big")
        return number if tag == 2 else -1 - number
    return value


def dumps(value: Any) -> bytes:
    """A tree as CBOR; instants become tag 1."""
    out = bytearray()
    _write(out, value)
    return bytes(out)


def _head(out: bytearray, major: int, size: int) -> None:
    base = major << 5
    if size < 24:
        out.append(base | size)
    elif size < 1 << 8:
        out += bytes((base | 24, size))
    elif size < 1 << 16:
        out += struct.pack(">BH", base | 25, size)
    elif size < 1 << 32:
        out += struct.pack(">BI", base | 26, size)
    else:
        out += struct.pack(">BQ", base | 27, size)


def _write(out: bytearray, value: Any) -> None:
    if value is None:
        out.append(0xF6)
    elif value is True or value is False:
        out.append(0xF5 if value else 0xF4)
    elif isinstance(value, str):
        data = value.encode()
        _head(out, 3, len(data))
        out += data
    elif isinstance(value, int):
        _write_int(out, value)
    elif isinstance(value, float):
        out += struct.pack(">Bd", 0xFB, value)
    elif isinstance(value, Mapping):
        _head(out, 5, len(value))
        for key, item in value.items():
            _write(out, key)
            _write(out, item)
    elif isinstance(value, (list, tuple)):
        _head(out, 4, len(value))
        for item in value:
            _write(out, item)
    elif isinstance(value, datetime):
        out.append(0xC1)
        _write(out, scalars.epoch(value))
    else:
        data = scalars.blob_bytes(value)
        _head(out, 2, len(data))
        out += data


def _write_int(out: bytearray, value: int) -> None:
    size = value if value >= 0 else -1 - value
    if size >> 64:
        data = size.to_bytes((size.bit_length() + 7) // 8, "big")
        out.append(0xC2 if value >= 0 else 0xC3)
        _head(out, 2, len(data))
        out += data
    else:
        _head(out, 0 if value >= 0 else 1, size)


class CborReader(TreeReader):
    """Blobs are bytes already, and instants instants."""

    def scalar(self, shape: Shape) -> Reader:
        if shape.kind == "blob":
            return Reader(bytes, None, refusal_of(shape))
        if shape.kind == "timestamp":
            return Reader(datetime, None, scalars.parse_timestamp)
        return super().scalar(shape)


class CborWriter(TreeWriter):
    def scalar(self, shape: Shape) -> Convert | None:
        if shape.kind == "blob":
            return scalars.blob_bytes
        if shape.kind == "timestamp":
            return _instant
        if shape.kind in ("float", "double"):
            return float
        return super().scalar(shape)


def _instant(value: Any) -> datetime:
    return value if isinstance(value, datetime) else scalars.parse_timestamp(value)


def compile_request(operation: Operation) -> RequestDecoder:
    shape = operation.input
    if shape is None:
        return lambda _request, _body, _params: {}
    read = CborReader().compile(shape).convert
    assert read is not None

    def decode(_request: Request, body: bytes | ByteStream, _params: Mapping[str, str]) -> dict[str, Any]:
        data = body_bytes(body)
        value = loads(data) if data else {}
        if type(value) is not dict:
            raise Malformed("Unexpected value type in payload")
        result: dict[str, Any] = read(value)
        return result

    return decode


def _headers(request_id: str, content_type: str = CONTENT_TYPE) -> list[tuple[str, str]]:
    return [("Content-Type", content_type), ("smithy-protocol", "rpc-v2-cbor"), ("x-amzn-RequestId", request_id)]


def compile_response(operation: Operation) -> ResponseEncoder:
    shape = operation.output
    if shape is None:
        return lambda _result, request_id, _request: Response(200, _headers(request_id)[1:], b"")
    if operation.event_output:
        return _event_response(operation, shape)
    convert = CborWriter().compile(shape)
    assert convert is not None
    return lambda result, request_id, _request: Response(200, _headers(request_id), dumps(convert(result)))


def _event_response(operation: Operation, shape: Shape) -> ResponseEncoder:
    name = operation.event_output
    writer = CborWriter()
    head = writer.structure({key: member for key, member in shape.members.items() if key != name})
    pack = eventstream.compile_packer(shape.members[name], writer, dumps, CONTENT_TYPE)

    def encode(result: Mapping[str, Any], request_id: str, _request: Request) -> Response:
        first = eventstream.initial_response(dumps(head(result)), CONTENT_TYPE)
        return Response(200, _headers(request_id, eventstream.CONTENT_TYPE), eventstream.stream(result.get(name), pack, first))

    return encode


def render_error(fault: Fault, request_id: str, _request: Request) -> Response:
    headers = _headers(request_id)
    if fault.query_error:
        headers.append(("x-amzn-query-error", fault.query_error))
    return Response(fault.status, headers, dumps({"__type": fault.name, **error_members(fault)}))
