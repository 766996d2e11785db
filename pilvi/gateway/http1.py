"""HTTP/1.1 at the rim: an asyncio protocol on llhttp (httptools). Speaks the tiny Request and Response of pilvi.core.http.

    bytes --feed--> parser --head--> Request --answer()--> Response --write--> bytes

Why not an ASGI server: decisions/0002-http-rim.md (half the CPU of a small request). What matters here:
- An answer that never has to wait is given inside `data_received`, without a task of its own.
- Small bodies are whole before the request is handed up; larger ones stream with back-pressure in both directions.
- `Expect: 100-continue` is answered when the body is first read, that is when the head has been verified.
- One request at a time per connection; pipelined ones wait their turn, in order.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

import httptools

from pilvi.core.http import Request, Response
from pilvi.core.streams import ByteStream, ClientGone
from pilvi.gateway.direct import send_directly
from pilvi.gateway.plain import read_plain
from pilvi.gateway.resume import go_on, pieces_of
from pilvi.gateway.shortcut import Answer as Written
from pilvi.gateway.shortcut import Shortcut, Taken

Answer = Callable[[Request], Coroutine[Any, Any, Response]]

SMALL_BYTES = 64 << 10
"""Bodies up to this size are gathered before the request is handed up."""
HEAD_BYTES = 64 << 10
READ_AHEAD_BYTES = 2 << 20
DISCARD_BYTES = 64 << 20
"""The rest of a body whose request was refused early is read and dropped up to here."""
WRITE_AHEAD_BYTES = 4 << 20
DIRECT_BYTES = 1 << 20
"""Bodies from this size on go past the event loop (pilvi.gateway.direct)."""
COPIED_BYTES = 16 << 10
"""Bodies up to this size are joined with their heads; larger ones are written behind them."""
PIPELINE = 16
IDLE_S = 75.0
"""A connection without a request, or a request head or body that makes no progress, is closed after this."""
SWEEP_S = 5.0

CLIENT_HEADER = "x-pilvi-client"
"""Between worker and first process: the address of the client. Believed on the inner socket only."""

REASONS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
TLS = b"\x16"
"""How a TLS connection begins: the type of a handshake record."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_NAMES: dict[bytes, str] = {}


def lower_name(raw: bytes) -> str:
    """A header name in lower case; the usual ones are decoded once."""
    name = _NAMES.get(raw)
    if name is None:
        name = raw.decode("latin-1").lower()
        if len(_NAMES) < 1024:
            _NAMES[raw] = name
    return name


def tls_version(transport: Any) -> str:
    """`1.3`; only known once both sides have shaken hands."""
    version: str | None = transport.get_extra_info("ssl_object").version()
    return (version or "").removeprefix("TLSv")


async def taken_later(taken: Taken) -> Written | Response:
    """What the short way gives, whether it is there already or has to be waited for."""
    return taken if isinstance(taken, Written) else await taken


class HttpServer:
    """The connections of one listening socket."""

    def __init__(self, answer: Answer, *, secure: Any = None, is_inner: bool = False, shortcut: Shortcut | None = None) -> None:
        """secure: takes over what is not plain HTTP (pilvi.gateway.secure). is_inner: the clients are workers of this server, who
        say whom they speak for (pilvi.gateway.forward). shortcut: is offered plain requests first.
        """
        self.answer = answer
        self.shortcut = shortcut
        self.secure = secure
        self.is_inner = is_inner
        self.connections: set[Connection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        """Requests being answered. Held here because the loop itself holds tasks only weakly."""
        self.loop: asyncio.AbstractEventLoop
        self.is_stopping = False
        self._date = ("", -1.0)
        self._opening = ("", b"")
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self, sock: Any) -> None:
        self.loop = asyncio.get_running_loop()
        if sock.family == socket.AF_UNIX:
            self._server = await self.loop.create_unix_server(lambda: Connection(self), sock=sock)
        else:
            self._server = await self.loop.create_server(lambda: Connection(self), sock=sock, backlog=1024)
        self._sweep()

    def refuse_more(self) -> None:
        """Take no more connections and no more requests; what is being answered goes on."""
        if self.is_stopping:
            return
        self.is_stopping = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.close_when_idle()

    async def stop(self, grace_s: float = 10.0) -> None:
        """Let running answers end, then close what is left."""
        self.refuse_more()
        deadline = self.loop.time() + grace_s
        while (self.connections or self.tasks) and self.loop.time() < deadline:
            await asyncio.sleep(0.01)
        for connection in list(self.connections):
            connection.abort()

    def date(self) -> str:
        """The Date header's value, made once a second."""
        now = self.loop.time()
        if now - self._date[1] >= 1.0 or not self._date[0]:
            self._date = (formatdate(usegmt=True), now)
        return self._date[0]

    def opening(self, status: int) -> bytes:
        """Status line and Date, made once a second for the one that counts."""
        date = self.date()
        if status != 200:
            return f"{REASONS[status]}Date: {date}\r\n".encode()
        if date is not self._opening[0]:
            self._opening = (date, f"{REASONS[200]}Date: {date}\r\n".encode())
        return self._opening[1]

    def _sweep(self) -> None:
        oldest = self.loop.time() - IDLE_S
        for connection in list(self.connections):
            if connection.is_waiting_for_client and connection.last_active < oldest:
                connection.abort()
        self._sweeper = self.loop.call_later(SWEEP_S, self._sweep)


class Incoming:
    """A request that is still arriving: its head, and its body as far as it is here."""

    __slots__ = (
        "_connection",
        "_failed",
        "_waiter",
        "buffered",
        "done",
        "expects",
        "is_old",
        "is_unwanted",
        "keep_alive",
        "length",
        "pieces",
        "request",
    )

    def __init__(self, connection: Connection, request: Request, *, keep_alive: bool, expects: bool, length: int | None) -> None:
        self._connection = connection
        self.request = request
        self.keep_alive = keep_alive
        self.expects = expects
        self.length = length
        self.pieces: deque[bytes] = deque()
        self.buffered = 0
        self.done = False
        self.is_old = False
        """HTTP/1.0, which knows no chunks: a body of unknown length ends with the connection."""
        self.is_unwanted = False
        """Answered before it was read: the rest is dropped, so that the client gets to read the answer."""
        self._failed = False
        self._waiter: asyncio.Future[None] | None = None

    def feed(self, piece: bytes) -> None:
        self.pieces.append(piece)
        self.buffered += len(piece)
        self._wake()

    def finish(self) -> None:
        self.done = True
        self._wake()

    def fail(self) -> None:
        self._failed = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def take(self) -> bytes | None:
        """The next piece that has arrived, if any; lets the client send on."""
        if not self.pieces:
            return None
        piece = self.pieces.popleft()
        self.buffered -= len(piece)
        if self.buffered < READ_AHEAD_BYTES:
            self._connection.resume_reading()
        return piece

    def invite(self) -> None:
        """Somebody wants the body: let a client go on that waits to be asked."""
        if self.expects and not self.done and not self.pieces:
            self._connection.send_continue()
        self.expects = False

    async def more(self) -> bool:
        """Wait until there is more; False at the end. ClientGone when the client goes away in the middle."""
        if self.done:
            return False
        if self._failed:
            raise ClientGone("the client went away in the middle of its request")
        self._waiter = self._connection.server.loop.create_future()
        await self._waiter
        self._waiter = None
        return True


class Connection(asyncio.Protocol):
    __slots__ = (
        "_client",
        "_closing",
        "_connect_to",
        "_drained",
        "_head_bytes",
        "_headers",
        "_incoming",
        "_is_fresh",
        "_is_midway",
        "_is_paused",
        "_parser",
        "_queue",
        "_running",
        "_scheme",
        "_transport",
        "_url",
        "last_active",
        "server",
    )

    def __init__(self, server: HttpServer) -> None:
        self.server = server
        self._parser = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._client = "127.0.0.1"
        self._scheme = "http"
        self._connect_to = ""
        self._url = b""
        self._headers: dict[str, str] = {}
        self._head_bytes = 0
        self._is_fresh = True
        self._is_midway = False
        """Whether the parser has seen the beginning of a request, and not yet its end."""
        self._incoming: Incoming | None = None
        self._queue: deque[Incoming] = deque()
        self._running: Incoming | None = None
        self._closing = False
        self._is_paused = False
        self._drained: asyncio.Future[None] | None = None
        self.last_active = server.loop.time()

    # -- the transport's side ---------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.set_write_buffer_limits(WRITE_AHEAD_BYTES)
        peer = transport.get_extra_info("peername")
        if peer and isinstance(peer, tuple):
            self._client = peer[0]
        if transport.get_extra_info("ssl_object") is not None:
            self._scheme = "https"
        self.server.connections.add(self)
        if self.server.is_stopping:
            transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        self._closing = True
        self.server.connections.discard(self)
        for incoming in (self._incoming, self._running, *self._queue):
            if incoming is not None and not incoming.done:
                incoming.fail()
        self._queue.clear()
        if self._running is not None:
            self._running.request.leave()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def data_received(self, data: bytes) -> None:
        self.last_active = self.server.loop.time()
        if self.server.shortcut is not None and not self._is_midway and self._running is None and self._goes_short(data):
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as end:
            if self._connect_to and self._scheme == "http" and self.server.secure is not None and self._running is None:
                self._hand_over().connect(self.server, self._transport, self._connect_to, data[end.args[0] :])
            else:
                self._refuse(501, b"upgrades are not spoken here")
        except httptools.HttpParserError:
            if self._is_fresh and data[:1] == TLS and self._scheme == "http" and self.server.secure is not None:
                self._hand_over().begin(self.server, self._transport, data)
            else:
                self._refuse(400, b"this is not HTTP/1.1")

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._drained = self.server.loop.create_future()

    def resume_writing(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    async def until_drained(self) -> None:
        """Wait until the client took enough of what was written, or is gone."""
        if self._drained is not None:
            await self._drained

    # -- the parser's side ------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._is_midway = True
        self._url = b""
        self._headers = {}
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._head_bytes += len(url)

    def on_header(self, raw_name: bytes, raw_value: bytes) -> None:
        self._head_bytes += len(raw_name) + len(raw_value)
        if self._head_bytes > HEAD_BYTES:
            raise httptools.HttpParserError("the head is too large")
        name = lower_name(raw_name)
        value = raw_value.decode("latin-1")
        headers = self._headers
        headers[name] = f"{headers[name]},{value}" if name in headers else value

    def on_headers_complete(self) -> None:
        parser, headers, url = self._parser, self._headers, self._url
        self._is_fresh = False
        if parser.get_method() == b"CONNECT":
            self._connect_to = url.decode("latin-1")
            return
        if not url.startswith(b"/") and b"://" in url:
            _, _, rest = url.partition(b"://")
            slash = rest.find(b"/")
            url = rest[slash:] if slash >= 0 else b"/"
        path, _, query = url.decode("latin-1").partition("?")
        client, scheme, tls = self._client, self._scheme, ""
        if self.server.is_inner:
            client, _, scheme = headers.pop(CLIENT_HEADER, self._client).partition(" ")
            scheme, _, tls = scheme.partition(" ")
        request = Request(parser.get_method().decode("latin-1"), path, query, headers, scheme=scheme or "http", client=client)
        request.tls = tls_version(self._transport) if self._scheme == "https" else tls
        length = None if "transfer-encoding" in headers else int(headers.get("content-length") or 0)
        incoming = Incoming(
            self,
            request,
            keep_alive=parser.should_keep_alive(),
            expects=headers.get("expect", "").lower() == "100-continue",
            length=length,
        )
        incoming.is_old = parser.get_http_version() == "1.0"
        self._incoming = incoming
        if length is None or length > SMALL_BYTES:
            request.body = ByteStream(source=pieces_of(incoming), length=length)
            self._enter(incoming)
        elif self._running is None:
            self._invite(incoming)

    def _invite(self, incoming: Incoming) -> None:
        """Small bodies are gathered first, so whoever waits for `100 Continue` is asked to go on at once.

        Empty ones too: the botocore inside the AWS CLI loses track of a connection on which an empty file was answered without.
        """
        if incoming.expects:
            self.send_continue()
            incoming.expects = False

    def on_body(self, body: bytes) -> None:
        incoming = self._incoming
        if incoming is None:
            return
        if incoming.is_unwanted:
            incoming.buffered += len(body)
            if incoming.buffered > DISCARD_BYTES:
                self.abort()
            return
        incoming.feed(body)
        if incoming.buffered > READ_AHEAD_BYTES and (incoming.length is None or incoming.length > SMALL_BYTES):
            self._pause_reading()

    def on_message_complete(self) -> None:
        incoming = self._incoming
        self._incoming = None
        self._is_midway = False
        if incoming is None:
            return
        incoming.finish()
        if incoming.is_unwanted:
            self._close_gently()
        elif incoming.length is not None and incoming.length <= SMALL_BYTES:
            incoming.request.body = ByteStream(b"".join(incoming.pieces))
            incoming.pieces.clear()
            self._enter(incoming)

    def _hand_over(self) -> Any:
        """Somebody else speaks with this client from now on."""
        self._closing = True
        self.server.connections.discard(self)
        return self.server.secure

    # -- one request after the other --------------------------------------------------------------------------------

    def _enter(self, incoming: Incoming) -> None:
        if self._running is not None:
            self._queue.append(incoming)
            if len(self._queue) >= PIPELINE:
                self._pause_reading()
            return
        self._run(incoming)

    def _goes_short(self, data: bytes) -> bool:
        """Whether these bytes are a plain request that was taken on the short way; the parser never sees them then."""
        shortcut = self.server.shortcut
        if self._closing or self._queue or self._drained is not None or self._scheme != "http" or self.server.is_stopping:
            return False
        plain = read_plain(data) if shortcut is not None else None
        if plain is None or shortcut is None:
            return False
        taken = shortcut.take(plain, self._client)
        if taken is None:
            return False
        self._is_fresh = False
        if isinstance(taken, Written):
            self._write_whole(taken)
            return True
        request = Request(plain.method, plain.path, "", plain.headers, client=self._client)
        incoming = Incoming(self, request, keep_alive=True, expects=False, length=0)
        incoming.done = True
        self._carry_on(incoming, self._serve_taken(incoming, taken))
        return True

    async def _serve_taken(self, incoming: Incoming, taken: Coroutine[Any, Any, Written | Response]) -> None:
        answer = await taken
        if isinstance(answer, Written):
            if not self._closing:
                self._write_whole(answer)
        else:
            await self._write(incoming, answer)
        self._served(incoming)

    def _write_whole(self, answer: Written) -> None:
        opening = self.server.opening(answer.status)
        if len(answer.body) <= COPIED_BYTES:
            self._transport.write(b"".join((opening, answer.head, b"\r\n", answer.body)))
        else:
            self._transport.write(b"".join((opening, answer.head, b"\r\n")))
            self._transport.write(answer.body)

    def _run(self, incoming: Incoming) -> None:
        """Answer now if the answer needs no waiting; go on in a task from the first wait."""
        shortcut = self.server.shortcut
        if shortcut is not None and incoming.done and incoming.keep_alive and self._scheme == "http" and not incoming.is_old:
            taken = shortcut.take_request(incoming.request) if not self.server.is_stopping else None
            if taken is not None:
                self._carry_on(incoming, self._serve_taken(incoming, taken_later(taken)))
                return
        self._carry_on(incoming, self._serve(incoming))

    def _carry_on(self, incoming: Incoming, story: Coroutine[Any, Any, None]) -> None:
        self._running = incoming
        try:
            waits_for = story.send(None)
        except StopIteration:
            return
        task = self.server.loop.create_task(go_on(story, waits_for))
        self.server.tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.server.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.abort()
            if not isinstance(error, ConnectionError):
                self.server.loop.call_exception_handler({"message": "a request failed at the rim", "exception": error})

    async def _serve(self, incoming: Incoming) -> None:
        response = await self.server.answer(incoming.request)
        await self._write(incoming, response)
        self._served(incoming)

    def _served(self, incoming: Incoming) -> None:
        """The answer is written; what becomes of the connection."""
        self._running = None
        if not incoming.done and not self._closing:
            if incoming.expects:
                self._close_gently()
            else:
                incoming.is_unwanted = True
                incoming.buffered = 0
                incoming.pieces.clear()
                self.resume_reading()
        elif not incoming.keep_alive or self.server.is_stopping or incoming.is_old:
            self._close_gently()
        elif self._queue:
            self.server.loop.call_soon(self._next)
        elif self._incoming is not None and self._incoming.length is not None and self._incoming.length <= SMALL_BYTES:
            self._invite(self._incoming)
        self.last_active = self.server.loop.time()

    def _next(self) -> None:
        if self._queue and self._running is None and not self._closing:
            incoming = self._queue.popleft()
            self.resume_reading()
            self._run(incoming)

    async def _write(self, incoming: Incoming, response: Response) -> None:
        body = response.body
        if self._closing:
            if not isinstance(body, bytes):
                await body.close()
            return
        status = response.status
        is_head = incoming.request.method == "HEAD"
        length = len(body) if isinstance(body, bytes) else body.length
        will_close = not incoming.keep_alive or not incoming.done or self.server.is_stopping
        head, is_chunked = self._head(response, length, is_head=is_head, will_close=will_close, is_old=incoming.is_old)
        data = body if isinstance(body, bytes) else body.data
        if is_head or status in (204, 304):
            self._transport.write(head)
            if not isinstance(body, bytes):
                await body.close()
        elif data is not None:
            self._transport.write(head + data if len(data) < 65536 else head)
            if len(data) >= 65536:
                self._transport.write(data)
        else:
            assert isinstance(body, ByteStream)
            await self._write_stream(head, body, is_chunked=is_chunked)

    async def _write_stream(self, head: bytes, body: ByteStream, *, is_chunked: bool) -> None:
        failure: BaseException | None = None
        try:
            reader = body.reader
            if reader is not None and self._can_go_directly(body):
                sent = await send_directly(self._transport, head, reader, self)
                if sent != body.length:
                    self.abort()
            else:
                self._transport.write(head)
                await self._write_pieces(body, is_chunked=is_chunked)
        except BaseException as error:  # noqa: BLE001 - raised again below: compiled code must not wait in `except` or `finally`
            failure = error
            if isinstance(error, Exception):
                # The head is gone already: only a broken connection can tell the client that the body is not whole.
                self.abort()
        await body.close()
        if failure is not None:
            raise failure

    def _can_go_directly(self, body: ByteStream) -> bool:
        """Large enough, read in a thread anyway, and a plain socket behind which nothing waits to be written."""
        return (
            body.length is not None
            and body.length >= DIRECT_BYTES
            and self._scheme == "http"
            and not self._transport.get_write_buffer_size()
        )

    async def _write_pieces(self, body: ByteStream, *, is_chunked: bool) -> None:
        left = body.length
        async for piece in body:
            if self._closing:
                return
            if is_chunked:
                self._transport.write(b"%x\r\n" % len(piece))
                self._transport.write(piece)
                self._transport.write(b"\r\n")
            else:
                self._transport.write(piece)
                left = left - len(piece) if left is not None else None
            await self.until_drained()
            self.last_active = self.server.loop.time()
        if is_chunked:
            self._transport.write(b"0\r\n\r\n")
        elif left:
            self.abort()

    def _head(
        self, response: Response, length: int | None, *, is_head: bool, will_close: bool, is_old: bool = False
    ) -> tuple[bytes, bool]:
        status = response.status
        lines = [REASONS.get(status) or f"HTTP/1.1 {status} \r\n", "Date: ", self.server.date(), "\r\n"]
        has_length = False
        for name, value in response.headers:
            if name == "Content-Length" or name.lower() == "content-length":
                has_length = True
            lines += (name, ": ", value, "\r\n")
        is_chunked = False
        count = 2 + len(response.headers)
        if not has_length and status not in (204, 304):
            if length is None and is_old:
                will_close = True
            elif length is None:
                is_chunked = True
                lines.append("Transfer-Encoding: chunked\r\n")
                count += 1
            elif not is_head or length:
                lines += ("Content-Length: ", str(length), "\r\n")
                count += 1
        if will_close:
            lines.append("Connection: close\r\n")
            count += 1
        head = "".join(lines)
        if head.count("\n") != count or head.count("\r") != count:
            # A line break inside a header would let its author write headers, or a response, of his own.
            raise ValueError("a response header holds a line break")
        return f"{head}\r\n".encode("latin-1", "replace"), is_chunked

    # -- small acts -------------------------------------------------------------------------------------------------

    @property
    def is_closing(self) -> bool:
        return self._closing

    @property
    def is_waiting_for_client(self) -> bool:
        """Between requests, or a request is still arriving."""
        return self._running is None or not self._running.done

    def send_continue(self) -> None:
        if not self._closing:
            self._transport.write(CONTINUE)

    def _pause_reading(self) -> None:
        if not self._is_paused and not self._closing:
            self._is_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._is_paused and not self._closing:
            self._is_paused = False
            self._transport.resume_reading()

    def _refuse(self, status: int, message: bytes) -> None:
        if self._closing:
            return
        if self._running is None:
            head, _ = self._head(Response(status), len(message), is_head=False, will_close=True)
            self._transport.write(head + message)
        self._close_gently()

    def _close_gently(self) -> None:
        self._closing = True
        if self._incoming is not None:
            self._incoming.fail()
        self._transport.close()

    def close_when_idle(self) -> None:
        if self._running is None and self._incoming is None:
            self._close_gently()

    def abort(self) -> None:
        self._closing = True
        if self._transport is not None:
            self._transport.abort()
