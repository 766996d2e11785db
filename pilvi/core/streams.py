"""Bytes too large to hold: one stream type for both directions, so memory does not grow with object sizes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import BinaryIO, Protocol

CHUNK_BYTES = 1 << 20

Piece = bytes | bytearray
"""What a body comes in. A bytearray is the reader's own: whoever made it never touches it again."""


class ClientGone(ConnectionResetError):
    """The client went away in the middle of its request: nobody is left to answer. No other broken connection is this."""


class Promise(Protocol):
    """What a caller has signed of a body: its SHA-256. `stream` gives the bytes unchecked, for whoever hashes in threads of his own."""

    stream: ByteStream

    def update(self, data: Piece | memoryview, /) -> None:
        """Every piece, in order."""

    def keep(self) -> None:
        """At the end: the caller's error unless the bytes are those that were signed."""


class ByteStream:
    """A body that is read once, in order.

    Made from bytes, from a blocking iterator (a file, a decrypting reader) or from an async one (the network).
    `length` is the number of bytes when it is known beforehand, else None.
    """

    __slots__ = ("_async", "after", "data", "length", "promise", "reader", "trailer_names", "trailers")

    def __init__(
        self,
        data: bytes | None = None,
        *,
        sync: Iterator[Piece] | None = None,
        source: AsyncIterator[Piece] | None = None,
        length: int | None = None,
    ) -> None:
        self.data = data
        """The whole body, when it is already in memory; hot paths look here first."""
        self.reader = sync
        """The blocking iterator, for whoever reads in a thread; take this or the stream, never both."""
        self._async = source
        self.length = len(data) if data is not None else length
        self.after: Callable[[], None] | None = None
        """Called once when the stream is closed: whoever wants to know when a body was sent. Not for bodies in memory."""
        self.promise: Promise | None = None
        """Kept by reading this stream to its end; or by hand, reading the promise's own stream instead of this one."""
        self.trailer_names: tuple[str, ...] = ()
        """Names of the trailers an aws-chunked body announced (`x-amz-checksum-crc32`), known before it is read."""
        self.trailers: dict[str, str] = {}
        """Their values, once the body has been read to its end."""

    @classmethod
    def of(cls, body: ByteStream | bytes | bytearray | str | BinaryIO | None) -> ByteStream:
        """Any body a caller may hand over in-process, as a stream."""
        if isinstance(body, ByteStream):
            return body
        if body is None:
            return cls(b"")
        if isinstance(body, str):
            return cls(body.encode())
        if isinstance(body, (bytes, bytearray)):
            return cls(bytes(body))
        return cls(sync=iter(lambda: body.read(CHUNK_BYTES), b""))

    async def __aiter__(self) -> AsyncIterator[Piece]:
        """Chunks in order; a blocking source is read in a worker thread."""
        if self.data is not None:
            if self.data:
                yield self.data
        elif self._async is not None:
            async for chunk in self._async:
                yield chunk
        elif self.reader is not None:
            pull = self.reader
            while chunk := await asyncio.to_thread(next, pull, b""):
                yield chunk

    def __iter__(self) -> Iterator[Piece]:
        """Chunks in order, for code that runs in a thread. A network body cannot be read this way."""
        if self.data is not None:
            return iter((self.data,) if self.data else ())
        if self.reader is not None:
            return self.reader
        raise TypeError("a network body is read with 'async for'")

    async def read(self) -> bytes:
        """Everything that is left."""
        return self.data if self.data is not None else b"".join([chunk async for chunk in self])

    def read_now(self) -> bytes:
        """Everything that is left, from a thread."""
        return b"".join(self)

    async def close(self) -> None:
        """Let go of what lies behind the stream (open files, the rest of a request)."""
        if self.after is not None:
            after, self.after = self.after, None
            after()
        closer = getattr(self._async, "aclose", None)
        if closer is not None:
            await closer()
        close = getattr(self.reader, "close", None)
        if close is not None:
            close()
