"""Event streams: messages of headers and payload with checksums, one after the other (application/vnd.amazon.eventstream).

    total length | headers length | CRC32 of both | headers | payload | CRC32 of everything before

Source: AWS SDK design documents, "Event stream encoding"; botocore's eventstream module is the oracle in the tests.
"""

from __future__ import annotations

import struct
from binascii import crc32
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from pilvi.core.errors import PilviError, ServiceError
from pilvi.core.streams import ByteStream
from pilvi.protocol import scalars
from pilvi.protocol.shapes import Malformed, Shape
from pilvi.protocol.tree import TreeWriter

CONTENT_TYPE = "application/vnd.amazon.eventstream"
MAX_MESSAGE_BYTES = 24 << 20
Pack = Callable[[Mapping[str, Any]], bytes]


class Message(NamedTuple):
    headers: Mapping[str, Any]
    payload: bytes


# -- framing ------------------------------------------------------------------------------------------------------------


def frame(headers: Mapping[str, Any], payload: bytes) -> bytes:
    """One message. Header values: str, bool, int, bytes, datetime."""
    packed = b"".join([_pack_header(name, value) for name, value in headers.items()])
    prelude = struct.pack(">II", 16 + len(packed) + len(payload), len(packed))
    head = prelude + struct.pack(">I", crc32(prelude))
    message = head + packed + payload
    return message + struct.pack(">I", crc32(message))


def _pack_header(name: str, value: Any) -> bytes:
    raw = name.encode()
    return bytes((len(raw),)) + raw + _pack_value(value)


def _pack_value(value: Any) -> bytes:
    if isinstance(value, bool):
        return b"\x00" if value else b"\x01"
    if isinstance(value, int):
        return struct.pack(">Bi", 4, value) if -(1 << 31) <= value < 1 << 31 else struct.pack(">Bq", 5, value)
    if isinstance(value, datetime):
        return struct.pack(">Bq", 8, round(scalars.epoch(value) * 1000))
    if isinstance(value, str):
        raw = value.encode()
        return struct.pack(">BH", 7, len(raw)) + raw
    raw = scalars.blob_bytes(value)
    return struct.pack(">BH", 6, len(raw)) + raw


def unframe(data: bytes) -> tuple[Message, int] | None:
    """The first message and how many bytes it took; None while it is not whole yet."""
    if len(data) < 12:
        return None
    total, headers_length, prelude_crc = struct.unpack_from(">III", data)
    if crc32(data[:8]) != prelude_crc:
        raise Malformed("event stream prelude checksum does not match")
    if total > MAX_MESSAGE_BYTES or total < 16 + headers_length:
        raise Malformed("event stream message has an impossible length")
    if len(data) < total:
        return None
    if crc32(data[: total - 4]) != struct.unpack_from(">I", data, total - 4)[0]:
        raise Malformed("event stream message checksum does not match")
    headers = _unpack_headers(data[12 : 12 + headers_length])
    return Message(headers, data[12 + headers_length : total - 4]), total


_FIXED = {2: ">b", 3: ">h", 4: ">i", 5: ">q", 8: ">q"}


def _unpack_headers(data: bytes) -> dict[str, Any]:
    headers: dict[str, Any] = {}
    at = 0
    try:
        while at < len(data):
            size = data[at]
            name = data[at + 1 : at + 1 + size].decode()
            headers[name], at = _unpack_value(data, at + 1 + size)
    except (IndexError, struct.error, UnicodeDecodeError):
        raise Malformed("event stream headers are damaged") from None
    return headers


def _unpack_value(data: bytes, at: int) -> tuple[Any, int]:
    kind = data[at]
    at += 1
    if kind < 2:
        return kind == 0, at
    if kind in _FIXED:
        layout = _FIXED[kind]
        value = struct.unpack_from(layout, data, at)[0]
        return (scalars.parse_epoch(value / 1000) if kind == 8 else value), at + struct.calcsize(layout)
    if kind == 9:
        return UUID(bytes=data[at : at + 16]), at + 16
    if kind not in (6, 7):
        raise Malformed("event stream header of unknown type")
    size = struct.unpack_from(">H", data, at)[0]
    raw = data[at + 2 : at + 2 + size]
    if len(raw) != size:
        raise IndexError
    return (raw.decode() if kind == 7 else raw), at + 2 + size


async def messages(body: ByteStream) -> AsyncIterator[Message]:
    """The messages of a request body, as they arrive."""
    pending = b""
    async for chunk in body:
        pending += chunk
        while (found := unframe(pending)) is not None:
            message, size = found
            pending = pending[size:]
            yield message
    if pending:
        raise Malformed("event stream ends inside a message")


def messages_in(data: bytes) -> Iterator[Message]:
    """The messages of a body that is in memory."""
    while data:
        found = unframe(data)
        if found is None:
            raise Malformed("event stream ends inside a message")
        message, size = found
        data = data[size:]
        yield message


# -- events out ---------------------------------------------------------------------------------------------------------


def initial_response(payload: bytes, content_type: str) -> bytes:
    """The first message of an RPC protocol's stream: the response's other members."""
    return frame({":event-type": "initial-response", ":content-type": content_type, ":message-type": "event"}, payload)


def compile_packer(shape: Shape, writer: Any, dumps: Callable[[Any], bytes], content_type: str) -> Pack:
    """A function from one event, `{"PayloadPart": {...}}`, to its message."""
    packers = {name: _event_packer(name, member, writer, dumps, content_type) for name, member in shape.members.items()}

    def pack(event: Mapping[str, Any]) -> bytes:
        for name, value in event.items():
            if name in packers and value is not None:
                return packers[name](value)
        raise TypeError(f"no event of {shape.name}: {', '.join(event)}")

    return pack


def _event_packer(name: str, shape: Shape, writer: Any, dumps: Callable[[Any], bytes], content_type: str) -> Pack:
    is_error = bool(shape.traits.get("exception"))
    fixed = {":exception-type" if is_error else ":event-type": name, ":message-type": "exception" if is_error else "event"}
    headers = [key for key, member in shape.members.items() if member.traits.get("eventheader")]
    payload = next((key for key, member in shape.members.items() if member.traits.get("eventpayload")), None)
    if payload is not None:
        body, kind = _payload_packer(shape.members[payload], writer, dumps, content_type)
    else:
        rest = {key: member for key, member in shape.members.items() if key not in headers}
        body, kind = _structure_packer(shape, rest, writer, dumps), content_type

    def pack(value: Mapping[str, Any]) -> bytes:
        item = value if payload is None else value.get(payload)
        given = {key: value[key] for key in headers if value.get(key) is not None}
        data = b"" if item is None else body(item)
        return frame({**fixed, ":content-type": kind, **given} if data else {**fixed, **given}, data)

    return pack


def _structure_packer(shape: Shape, members: Mapping[str, Shape], writer: Any, dumps: Callable[[Any], bytes]) -> Pack:
    if isinstance(writer, TreeWriter):
        convert = writer.structure(members)
        return lambda value: dumps(convert(value))
    content, tag = writer.members(members), shape.wire_name or shape.name
    return lambda value: dumps(f"<{tag}>{content(value)}</{tag}>") if members else b""


def _payload_packer(shape: Shape, writer: Any, dumps: Callable[[Any], bytes], content_type: str) -> tuple[Any, str]:
    if shape.kind == "blob":
        return scalars.blob_bytes, "application/octet-stream"
    if shape.kind == "string":
        return lambda value: value.encode(), "text/plain"
    if isinstance(writer, TreeWriter):
        convert = writer.compile(shape)
        return lambda value: dumps(convert(value) if convert else value), content_type
    write = writer.element(shape, shape.wire_name or shape.name)
    return lambda value: dumps(write(value)), content_type


def _failure(error: Exception) -> bytes:
    """The message that ends a stream with an error that has no event of its own."""
    if isinstance(error, ServiceError):
        code, text = error.code, error.message
    elif isinstance(error, PilviError):
        code, text = type(error).__name__, error.message
    else:
        raise error
    return frame({":message-type": "error", ":error-code": code, ":error-message": text}, b"")


def stream(events: Any, pack: Pack, first: bytes = b"") -> ByteStream:
    """The body of a response: events from an iterable, blocking or async, packed as they come."""
    if events is None:
        return ByteStream(first)
    if hasattr(events, "__aiter__"):
        return ByteStream(source=_stream_async(events, pack, first))
    if isinstance(events, (list, tuple)):
        return ByteStream(b"".join(_stream_now(events, pack, first)))
    return ByteStream(sync=_stream_now(events, pack, first))


def _safely(event: Any, pack: Pack) -> bytes:
    """An event, or the exception a stream may hold in its place (`{"ThrottlingException": {...}}` is an event too)."""
    return _failure(event) if isinstance(event, Exception) else pack(event)


def _stream_now(events: Iterable[Any], pack: Pack, first: bytes) -> Iterator[bytes]:
    if first:
        yield first
    try:
        for event in events:
            yield _safely(event, pack)
    except PilviError as error:
        yield _failure(error)


async def _stream_async(events: Any, pack: Pack, first: bytes) -> AsyncIterator[bytes]:
    if first:
        yield first
    try:
        async for event in events:
            yield _safely(event, pack)
    except PilviError as error:
        yield _failure(error)


# -- events in ----------------------------------------------------------------------------------------------------------


def compile_unpacker(shape: Shape, reader: Any, loads: Callable[[bytes], Any]) -> Callable[[Message], dict[str, Any]]:
    """A function from a message to its event, `{"AudioEvent": {...}}`; unknown events are empty."""
    unpackers = {name: _event_unpacker(member, reader, loads) for name, member in shape.members.items()}

    def unpack(message: Message) -> dict[str, Any]:
        name = message.headers.get(":event-type", "")
        found = unpackers.get(name)
        return {} if found is None else {name: found(message)}

    return unpack


def _event_unpacker(shape: Shape, reader: Any, loads: Callable[[bytes], Any]) -> Callable[[Message], dict[str, Any]]:
    headers = [key for key, member in shape.members.items() if member.traits.get("eventheader")]
    payload = next((key for key, member in shape.members.items() if member.traits.get("eventpayload")), None)
    rest = {key: member for key, member in shape.members.items() if key not in headers}
    read_rest = reader.structure(rest)

    def unpack(message: Message) -> dict[str, Any]:
        out = {key: message.headers[key] for key in headers if key in message.headers}
        if payload is not None:
            out[payload] = _unpack_payload(shape.members[payload], reader, loads, message.payload)
        elif message.payload and rest:
            out |= read_rest(loads(message.payload))
        return out

    return unpack


def _unpack_payload(shape: Shape, reader: Any, loads: Callable[[bytes], Any], payload: bytes) -> Any:
    if shape.kind == "blob":
        return payload
    if shape.kind == "string":
        return payload.decode()
    return reader.compile(shape)(loads(payload))


def compile_input(shape: Shape, reader: Any, loads: Callable[[bytes], Any]) -> Callable[[bytes | ByteStream], Any]:
    """A function from a request body to its events: a list when the body is in memory, else an async iterator."""
    unpack = compile_unpacker(shape, reader, loads)

    def decode(body: bytes | ByteStream) -> Any:
        data = body if isinstance(body, bytes) else body.data
        if data is not None:
            return [event for message in messages_in(data) for event in _events_of(message, unpack)]
        return _unpack_all(body, unpack)

    return decode


def _events_of(message: Message, unpack: Callable[[Message], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Signed streams wrap each message in another (`:chunk-signature`); an empty one ends the stream."""
    if ":chunk-signature" in message.headers:
        for inner in messages_in(message.payload):
            yield from _events_of(inner, unpack)
    elif event := unpack(message):
        yield event


async def _unpack_all(body: Any, unpack: Callable[[Message], dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    async for message in messages(body):
        for event in _events_of(message, unpack):
            yield event
