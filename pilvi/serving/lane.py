"""One connection to a model server: HTTP/1.1, kept alive, one request at a time.

    ask      the whole answer            stream      the answer's head, then its body as it comes

Lives on the event loop. No thread waits for an answer, and nothing is copied but what the parser hands over.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, cast

import httptools

from pilvi.serving.answer import Answer, Broken, TookTooLong

_STREAM_BYTES: Final = 1 << 20
"""What may wait of a streamed body before the model server is held back."""


class Lane(asyncio.Protocol):
    def __init__(self, loop: asyncio.AbstractEventLoop, on_lost: Callable[[Lane], None]) -> None:
        self.is_open = False
        self._loop = loop
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._headers: dict[str, str] = {}
        self._pieces: list[bytes] = []
        self._done: asyncio.Future[Answer] | None = None
        self._stream: _Stream | None = None
        self._has_begun = False
        self._is_last = False

    # -- asking -------------------------------------------------------------------------------------------------------

    async def ask(self, head: bytes, body: bytes, timeout_s: float) -> Answer:
        """The answer to one request. Errors: Broken - the connection went; TookTooLong. Both end the lane."""
        self._send(head, body)
        assert self._done is not None
        timer = self._loop.call_later(timeout_s, self._too_long)
        try:
            return await self._done
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            timer.cancel()
            self._done = None

    async def stream(self, head: bytes, body: bytes, timeout_s: float) -> tuple[Answer, AsyncIterator[bytes]]:
        """The head of the answer (its body is empty), and the body's pieces. The lane is free again when these have ended."""
        self._stream = _Stream(self)
        stream = self._stream
        answer = await self.ask(head, body, timeout_s)
        return answer, stream.pieces(timeout_s)

    def close(self) -> None:
        self.is_open = False
        if self._transport is not None:
            self._transport.close()

    def _send(self, head: bytes, body: bytes) -> None:
        if self._transport is None or not self.is_open:
            raise Broken("The model server has closed its connection.", was_sent=False)
        self._done = self._loop.create_future()
        self._has_begun = False
        self._transport.writelines((head, body) if body else (head,))

    def _too_long(self) -> None:
        self._fail(TookTooLong("The model server did not answer in time."))

    # -- asyncio.Protocol ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by name
        self.is_open = True
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(Broken("The model server's answer is no HTTP."))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        # A body without a length ends with its connection.
        if error is None and self._has_begun and not self._headers.keys() & {"content-length", "transfer-encoding"}:
            self.on_message_complete()
        self._fail(Broken("The model server closed the connection before it had answered."))
        self._on_lost(self)

    def pause(self) -> None:
        if self._transport is not None and self.is_open:
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and self.is_open:
            self._transport.resume_reading()

    # -- the parser ---------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._headers, self._pieces = {}, []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._has_begun = True
        self._is_last = not self._parser.should_keep_alive()
        if self._stream is not None and self._done is not None and not self._done.done():
            self._done.set_result(Answer(self._parser.get_status_code(), self._headers, b""))

    def on_body(self, piece: bytes) -> None:
        if self._stream is not None:
            self._stream.add(piece)
        else:
            self._pieces.append(piece)

    def on_message_complete(self) -> None:
        self._has_begun = False
        if self._is_last:
            self.close()
        if self._stream is not None:
            self._stream.end(None)
            self._stream = None
        elif self._done is not None and not self._done.done():
            pieces = self._pieces
            body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self._done.set_result(Answer(self._parser.get_status_code(), self._headers, body))

    def _fail(self, error: Exception) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)
        if self._stream is not None:
            self._stream.end(error)
            self._stream = None
        self.close()


class _Stream:
    """The pieces of one streamed body."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._is_held = False
        self._has_ended = False
        self._error: Exception | None = None
        self._more = asyncio.Event()

    def add(self, piece: bytes) -> None:
        self._waiting.append(piece)
        self._waiting_bytes += len(piece)
        if self._waiting_bytes > _STREAM_BYTES and not self._is_held:
            self._is_held = True
            self._lane.pause()
        self._more.set()

    def end(self, error: Exception | None) -> None:
        self._has_ended, self._error = True, error
        self._more.set()

    async def pieces(self, timeout_s: float) -> AsyncIterator[bytes]:
        is_whole = False
        try:
            while True:
                while self._waiting:
                    piece = self._waiting.popleft()
                    self._waiting_bytes -= len(piece)
                    if self._is_held and self._waiting_bytes < _STREAM_BYTES // 2:
                        self._is_held = False
                        self._lane.resume()
                    yield piece
                if self._has_ended:
                    is_whole = self._error is None
                    if self._error is not None:
                        raise self._error
                    return
                self._more.clear()
                try:
                    await asyncio.wait_for(self._more.wait(), timeout_s)
                except TimeoutError:
                    raise TookTooLong("The model server's answer stopped in the middle.") from None
        finally:
            if not is_whole:
                self._lane.close()
