"""Take the body in: whole where the operation needs it whole, as a stream where it may be large."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilvi.core.errors import ServiceError
from pilvi.core.streams import Piece

if TYPE_CHECKING:
    from pilvi.gateway.app import Gateway
    from pilvi.gateway.call import Call

BUFFER_BYTES = 112 << 20
"""The largest body held in memory: a 50 MiB function archive in base 64 and room beside it; API limits are tighter."""


async def receive(gateway: Gateway, call: Call) -> None:
    if call.body is not None:
        return
    match = call.match
    assert match is not None
    if match.operation is not None and match.operation.streaming_input and "x-amz-content-sha256" in call.request.headers:
        return
    if match.operation is not None and match.operation.streaming_input and call.claim is not None and call.claim.is_presigned:
        return
    call.body = await read_whole(call)
    if match.needs_body:
        call.match = match.with_form(call.body)
        if call.match.error is not None:
            raise call.match.error


async def read_whole(call: Call) -> bytes:
    stream = call.request.body
    if stream.data is not None:
        return stream.data
    if stream.length is not None and stream.length > BUFFER_BYTES:
        raise too_large()
    pieces: list[Piece] = []
    size = 0
    async for piece in stream:
        size += len(piece)
        if size > BUFFER_BYTES:
            raise too_large()
        pieces.append(piece)
    return b"".join(pieces)


def too_large() -> ServiceError:
    return ServiceError("RequestEntityTooLargeException", "The request payload exceeded the size this operation accepts.", 413)
