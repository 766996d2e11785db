"""A worker's way to the first process: what it may not do itself goes over a socket that only this user can open.

    client → worker: reads are answered here → first process: everything else, exactly as it was sent

The request travels untouched, so its signature still fits, and the first process verifies, authorises and audits it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import httptools

from pilvi.core.http import Request, Response
from pilvi.core.streams import ByteStream
from pilvi.gateway.http1 import CLIENT_HEADER

READ_BYTES = 256 << 10
IDLE = 64
"""Connections kept open for the next request."""
CLIENT_GONE = 499
"""Nobody reads it."""
HOP_HEADERS = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "expect", CLIENT_HEADER})


class Forwarder:
    def __init__(self, path: str) -> None:
        """path: a socket of this machine; of another server (gateway.app), HOST:PORT."""
        self._path = path
        self._idle: deque[_Line] = deque()

    async def send(self, request: Request, body: bytes | None) -> Response:
        """The first process's answer. body: what was read already; None passes the request's stream on."""
        line = await self._open()
        request.on_gone = line.close  # so that the first process sees it, too
        try:
            await line.write(request, body)
            return await line.read_response(request.method, self._give_back)
        except ConnectionResetError:
            line.close()
            if request.is_gone:
                return Response(CLIENT_GONE)
            raise
        except BaseException:
            line.close()
            raise
        finally:
            request.on_gone = None

    def close(self) -> None:
        while self._idle:
            self._idle.popleft().close()

    async def _open(self) -> _Line:
        while self._idle:
            line = self._idle.pop()
            if line.is_usable:
                return line
            line.close()
        if self._path.startswith("/"):
            return _Line(*await asyncio.open_unix_connection(self._path, limit=READ_BYTES))
        host, _, port = self._path.rpartition(":")
        return _Line(*await asyncio.open_connection(host.strip("[]"), int(port), limit=READ_BYTES))

    def _give_back(self, line: _Line) -> None:
        if line.is_usable and len(self._idle) < IDLE:
            self._idle.append(line)
        else:
            line.close()


class _Line:
    """One connection to the first process: a request, a response, and again."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._start()

    def _start(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[str, str]] = []
        self._pieces: deque[bytes] = deque()
        self._has_head = False
        self._is_whole = False
        self._keep = False

    @property
    def is_usable(self) -> bool:
        return not self._writer.is_closing() and not self._reader.at_eof()

    def close(self) -> None:
        self._writer.close()

    async def write(self, request: Request, body: bytes | None) -> None:
        target = f"{request.raw_path}?{request.query}" if request.query else request.raw_path
        lines = [
            f"{request.method} {target} HTTP/1.1",
            f"{CLIENT_HEADER}: {request.client} {request.scheme} {request.tls}".rstrip(),
        ]
        lines += [f"{name}: {value}" for name, value in request.headers.items() if name not in HOP_HEADERS]
        stream = request.body if body is None else ByteStream(body)
        if stream.length is None:
            lines.append("transfer-encoding: chunked")
        elif stream.length or "content-length" in request.headers:
            lines.append(f"content-length: {stream.length}")
        self._writer.write("\r\n".join([*lines, "\r\n"]).encode("latin-1"))
        async for piece in stream:
            self._writer.write(piece if stream.length is not None else b"%x\r\n%b\r\n" % (len(piece), bytes(piece)))
            await self._writer.drain()
        if stream.length is None:
            self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    async def read_response(self, method: str, give_back: Any) -> Response:
        """The response, its body as a stream that hands the connection back at its end."""
        self._start()
        while not self._has_head:
            await self._feed()
        status = self._parser.get_status_code()
        self._keep = self._parser.should_keep_alive()
        headers = [
            (name, value) for name, value in self._headers if name.lower() not in ("connection", "transfer-encoding", "date")
        ]
        if method == "HEAD" or status in (204, 304) or self._is_whole:
            data = b"".join(self._pieces)
            self._finish(give_back)
            return Response(status, headers, data)
        length = next((int(value) for name, value in headers if name.lower() == "content-length"), None)
        return Response(status, headers, ByteStream(source=self._body(give_back), length=length))

    async def _body(self, give_back: Any) -> AsyncIterator[bytes]:
        try:
            while True:
                while self._pieces:
                    yield self._pieces.popleft()
                if self._is_whole:
                    break
                await self._feed()
        except BaseException:
            self.close()
            raise
        self._finish(give_back)

    def _finish(self, give_back: Any) -> None:
        if self._keep:
            give_back(self)
        else:
            self.close()

    async def _feed(self) -> None:
        data = await self._reader.read(READ_BYTES)
        if not data:
            raise ConnectionResetError("the first process closed the connection")
        self._parser.feed_data(data)

    # -- the parser's side ------------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        self._has_head = True

    def on_body(self, piece: bytes) -> None:
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        self._is_whole = True
