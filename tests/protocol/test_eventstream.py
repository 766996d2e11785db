"""Event streams, both ways, with botocore's reader as the oracle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st
from oracle import parsed
from sample import Sampler

from pilvi.core.errors import ServiceError
from pilvi.core.http import Request
from pilvi.core.streams import ByteStream
from pilvi.protocol import eventstream
from pilvi.protocol.models import Models, Operation
from pilvi.protocol.shapes import Malformed

HEADERS = st.dictionaries(
    st.text(min_size=1, max_size=20),
    st.text(max_size=50) | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=50),
    max_size=5,
)
REQUEST = Request("POST", "/", "", {})


@given(HEADERS, st.binary(max_size=300))
def test_frame_is_what_botocore_reads(headers: dict[str, Any], payload: bytes) -> None:
    data = eventstream.frame(headers, payload)
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    (event,) = list(buffer)
    assert (event.headers, event.payload) == (headers, payload)
    assert eventstream.unframe(data) == ((headers, payload), len(data))


@given(HEADERS, st.binary(max_size=40), st.data())
def test_unframe_refuses_damage(headers: dict[str, Any], payload: bytes, data: st.DataObject) -> None:
    whole = bytearray(eventstream.frame(headers, payload))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert survives(bytes(whole)) is None


def survives(data: bytes) -> Any:
    """The message, or None when it is refused or not whole."""
    try:
        return eventstream.unframe(data)
    except Malformed:
        return None


def test_unframe_waits_for_the_whole_message() -> None:
    data = eventstream.frame({":event-type": "a"}, b"payload")
    assert [eventstream.unframe(data[:size]) for size in range(len(data))] == [None] * len(data)


def streaming_operations() -> list[tuple[str, str]]:
    """Every operation that answers events."""
    models = Models()
    found = []
    for name in models.names():
        model = models.service(name)
        if any(shape.get("eventstream") for shape in model.shapes.values()):
            operations = [model.operation(each) for each in model.operation_names()]
            found += [(name, each.name) for each in operations if each is not None and each.event_output]
        models._services.clear()
    return found


def samples(operation: Operation) -> list[dict[str, Any]]:
    """One event of each kind."""
    shape = operation.model.output_shape.members[operation.event_output]
    sampler = Sampler(f"events/{operation.service}/{operation.name}", filled=operation.service_model.protocol == "rest-xml")
    return [{name: sampler.structure(member)} for name, member in shape.members.items() if not member.metadata.get("exception")]


def test_encode_writes_events_that_botocore_reads(models: Models) -> None:
    wrong = []
    for service, name in streaming_operations():
        operation = models.service(service).operation(name)
        assert operation is not None
        for protocol in operation.service_model.protocols:
            events = samples(operation)
            response = operation.encode(
                {operation.event_output: iter(events)}, protocol=protocol, request_id="r-1", request=REQUEST
            )
            assert ("Content-Type", eventstream.CONTENT_TYPE) in response.headers
            found = list(parsed(response, operation.model, protocol)[operation.event_output])
            if found != events:
                wrong.append(f"{service}.{name} {protocol}: {events} became {found}")
    assert not wrong, "\n".join(wrong[:3])


def test_stream_carries_an_error_as_its_last_message(models: Models) -> None:
    operation = models.service("sagemaker-runtime").operation("InvokeEndpointWithResponseStream")
    assert operation is not None

    def events() -> Iterator[dict[str, Any]]:
        yield {"PayloadPart": {"Bytes": b"one"}}
        raise ServiceError("ModelError", "it broke")

    response = operation.encode({"Body": events()}, protocol="rest-json", request_id="r", request=REQUEST)
    assert isinstance(response.body, ByteStream)
    first, last = list(eventstream.messages_in(b"".join(response.body)))
    assert first.payload == b"one"
    assert last.headers == {":message-type": "error", ":error-code": "ModelError", ":error-message": "it broke"}


async def collect(stream: Any) -> list[Any]:
    return [item async for item in stream]


def test_stream_takes_an_async_source(models: Models) -> None:
    operation = models.service("lambda").operation("InvokeWithResponseStream")
    assert operation is not None

    async def events() -> AsyncIterator[dict[str, Any]]:
        yield {"PayloadChunk": {"Payload": b"one"}}
        yield {"InvokeComplete": {"LogResult": "abc"}}

    response = operation.encode({"EventStream": events(), "StatusCode": 200}, protocol="rest-json", request_id="r", request=REQUEST)
    chunks = asyncio.run(collect(response.body))
    kinds = [message.headers[":event-type"] for message in eventstream.messages_in(b"".join(chunks))]
    assert kinds == ["PayloadChunk", "InvokeComplete"]


def test_decode_reads_events(models: Models) -> None:
    operation = models.service("lexv2-runtime").operation("StartConversation")
    assert operation is not None
    audio = {":event-type": "AudioInputEvent", ":message-type": "event", ":content-type": "application/json"}
    inner = eventstream.frame(audio, b'{"audioChunk":"b25l","contentType":"audio/lpcm"}')
    signed = eventstream.frame({":chunk-signature": b"0", ":date": datetime(2026, 1, 1, tzinfo=UTC)}, inner)
    expected = [{"AudioInputEvent": {"audioChunk": b"one", "contentType": "audio/lpcm"}}] * 2
    assert operation.decode(REQUEST, inner + signed, {})["requestEventStream"] == expected

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(inner + signed), 7):
            yield (inner + signed)[at : at + 7]

    streamed = operation.decode(REQUEST, ByteStream(source=pieces()), {})["requestEventStream"]
    assert asyncio.run(collect(streamed)) == expected
