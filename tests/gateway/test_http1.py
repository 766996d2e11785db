"""The HTTP rim alone, spoken to over raw sockets: framing, order, continue, refusals, back-pressure."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from pilvi.core.http import Request, Response
from pilvi.core.streams import ByteStream
from pilvi.gateway.http1 import DISCARD_BYTES, SMALL_BYTES, HttpServer

PIECE = b"x" * 100_000
WATCHED = 300
"""Pieces of a body that no socket's buffers hold."""


class Rim:
    """A server in a thread with one answer per path."""

    def __init__(self) -> None:
        self.seen: list[Request] = []
        self.given = 0
        self.is_let_go = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))
        self._thread.start()
        assert self._ready.wait(5)

    async def _main(self) -> None:
        self._stop, self._loop = asyncio.Event(), asyncio.get_running_loop()
        self._loop.set_exception_handler(lambda *_: None)
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        self.port = sock.getsockname()[1]
        server = HttpServer(self.answer)
        await server.start(sock)
        self._ready.set()
        await self._stop.wait()
        await server.stop(grace_s=1)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def answer(self, request: Request) -> Response:
        self.seen.append(request)
        match request.raw_path:
            case "/slow":
                await asyncio.sleep(0)
                return Response(200, [], b"slow")
            case "/echo":
                return Response(200, [], await request.body.read())
            case "/refuse":
                return Response(403, [], b"no")
            case "/stream":
                return Response(200, [], ByteStream(sync=iter([PIECE] * 100)))
            case "/known":
                return Response(200, [], ByteStream(sync=iter([PIECE] * 100), length=100 * len(PIECE)))
            case "/watched":
                return Response(200, [], ByteStream(sync=self.watched(), length=WATCHED * len(PIECE)))
            case "/cut":
                return Response(200, [], ByteStream(sync=iter([PIECE] * 20), length=100 * len(PIECE)))
            case "/short":
                return Response(200, [], ByteStream(sync=iter([PIECE]), length=200_000))
            case "/split":
                return Response(200, [("X-A", "1\r\nX-B: 2")], b"")
            case "/nothing":
                return Response(204)
        return Response(200, [("Content-Type", "text/plain")], b"hello")

    def watched(self) -> Iterator[bytes]:
        try:
            for _ in range(WATCHED):
                self.given += 1
                yield PIECE
        finally:
            self.is_let_go.set()

    def talk(self, data: bytes, *, until: Callable[[bytes], bool] | None = None) -> bytes:
        """Send and read to the end of the connection, or until enough was read."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(data)
            return read(connection, until)


def read(connection: socket.socket, until: Callable[[bytes], bool] | None = None) -> bytes:
    found = bytearray()
    while until is None or not until(bytes(found)):
        piece = connection.recv(1 << 16)
        if not piece:
            break
        found += piece
    return bytes(found)


@pytest.fixture(scope="module")
def rim() -> Iterator[Rim]:
    running = Rim()
    yield running
    running.close()


def get(path: str, extra: str = "Connection: close\r\n") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n{extra}\r\n".encode()


def test_answer_has_length_and_date(rim: Rim) -> None:
    head, _, body = rim.talk(get("/")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: 5" in head
    assert b"\r\nDate: " in head
    assert body == b"hello"


def test_pipelined_requests_are_answered_in_order(rim: Rim) -> None:
    found = rim.talk(get("/", "") + get("/slow", "") + get("/nothing", "") + get("/"))
    assert found.index(b"hello") < found.index(b"slow") < found.index(b"204 No Content") < found.rindex(b"hello")


def test_path_and_query_stay_as_sent(rim: Rim) -> None:
    rim.talk(get("/a%2Fb//c?x=%20&y"))
    assert (rim.seen[-1].raw_path, rim.seen[-1].query) == ("/a%2Fb//c", "x=%20&y")


def test_absolute_form_is_understood(rim: Rim) -> None:
    rim.talk(get("http://s3.amazonaws.com/bucket/key?a=1"))
    assert (rim.seen[-1].raw_path, rim.seen[-1].query) == ("/bucket/key", "a=1")


def test_repeated_headers_are_joined(rim: Rim) -> None:
    rim.talk(get("/", "X-One: a\r\nx-one: b\r\nConnection: close\r\n"))
    assert rim.seen[-1].headers["x-one"] == "a,b"


@pytest.mark.parametrize("size", [0, 1, SMALL_BYTES, SMALL_BYTES + 1, 3_000_000])
def test_bodies_arrive_whole(rim: Rim, size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    head = f"PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode()
    assert rim.talk(head + body[:size]).partition(b"\r\n\r\n")[2] == body[:size]


def test_chunked_bodies_arrive_whole(rim: Rim) -> None:
    head = b"PUT /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    found = rim.talk(head + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")
    assert found.partition(b"\r\n\r\n")[2] == b"hello world"


@pytest.mark.parametrize("size", [5, SMALL_BYTES + 5])
def test_expecting_clients_are_asked_to_go_on(rim: Rim, size: int) -> None:
    with socket.create_connection(("127.0.0.1", rim.port), timeout=10) as connection:
        head = f"PUT /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode())
        assert read(connection, lambda found: b"\r\n\r\n" in found) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"z" * size)
        assert read(connection).partition(b"\r\n\r\n")[2] == b"z" * size


def test_expecting_clients_are_answered_before_an_empty_body_too(rim: Rim) -> None:
    found = rim.talk(b"PUT /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    assert found.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


def test_refusal_before_the_body_reaches_an_expecting_client(rim: Rim) -> None:
    head = f"PUT /refuse HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {SMALL_BYTES + 1}\r\n\r\n"
    found = rim.talk(head.encode())
    assert found.startswith(b"HTTP/1.1 403 Forbidden")
    assert b"100 Continue" not in found


def test_refusal_reaches_a_client_that_is_still_sending(rim: Rim) -> None:
    size = 8_000_000
    head = f"PUT /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode()
    assert rim.talk(head + b"y" * size).startswith(b"HTTP/1.1 403 Forbidden")


def test_a_refused_client_that_never_ends_is_cut_off(rim: Rim) -> None:
    size = DISCARD_BYTES * 4
    with socket.create_connection(("127.0.0.1", rim.port), timeout=10) as connection:
        connection.sendall(f"PUT /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode())
        with pytest.raises(ConnectionError):  # noqa: PT012 - whichever of the sends meets the closed door
            for _ in range(size // 1_000_000):
                connection.sendall(b"y" * 1_000_000)


def test_stream_of_unknown_length_is_chunked(rim: Rim) -> None:
    head, _, body = rim.talk(get("/stream")).partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    assert body.count(b"x") == 100 * len(PIECE)
    assert body.endswith(b"0\r\n\r\n")


def test_stream_for_http_1_0_ends_with_the_connection(rim: Rim) -> None:
    head, _, body = rim.talk(b"GET /stream HTTP/1.0\r\nHost: a\r\n\r\n").partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert body == PIECE * 100


def test_stream_of_known_length_is_whole(rim: Rim) -> None:
    head, _, body = rim.talk(get("/known")).partition(b"\r\n\r\n")
    assert b"Content-Length: 10000000" in head
    assert body == PIECE * 100


def slow_client(rim: Rim, request: bytes) -> socket.socket:
    """A client that took the head of an answer and then nothing more, for whom the server now waits."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(10)
    connection.connect(("127.0.0.1", rim.port))
    connection.sendall(request)
    assert connection.recv(1)
    before = -1
    while before != rim.given:
        before = rim.given
        threading.Event().wait(0.1)
    return connection


def test_a_slow_client_gets_a_large_body_whole(rim: Rim) -> None:
    with slow_client(rim, get("/watched")) as connection:
        assert rim.given < WATCHED
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        assert read(connection).count(b"x") == WATCHED * len(PIECE)
    assert rim.is_let_go.wait(5)


def test_a_client_that_leaves_a_large_body_is_noticed(rim: Rim) -> None:
    rim.is_let_go.clear()
    rim.given = 0
    slow_client(rim, get("/watched")).close()
    assert rim.is_let_go.wait(5)
    assert rim.given < WATCHED


def test_what_follows_a_large_body_comes_behind_it(rim: Rim) -> None:
    found = rim.talk(get("/known", "") + get("/"))
    assert PIECE * 100 in found
    assert found.endswith(b"hello")


def test_a_large_body_that_falls_short_breaks_the_connection(rim: Rim) -> None:
    try:
        found = rim.talk(get("/cut", ""))
    except ConnectionResetError:
        found = b""
    assert found.count(b"x") < 100 * len(PIECE)


def test_a_body_that_falls_short_breaks_the_connection(rim: Rim) -> None:
    try:
        found = rim.talk(get("/short", ""))
    except ConnectionResetError:
        found = b""
    assert len(found) < 200_000


def test_head_answers_carry_no_body(rim: Rim) -> None:
    found = rim.talk(b"HEAD /known HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert b"Content-Length: 10000000" in found
    assert found.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "broken",
    [
        b"hello\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nBad Header: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
    ],
)
def test_broken_requests_are_refused(rim: Rim, broken: bytes) -> None:
    assert rim.talk(broken).startswith(b"HTTP/1.1 400 ")


def test_a_waiting_request_outlives_the_garbage_collector(rim: Rim) -> None:
    size = SMALL_BYTES * 2
    with socket.create_connection(("127.0.0.1", rim.port), timeout=10) as connection:
        connection.sendall(f"PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode())
        connection.sendall(b"z" * SMALL_BYTES)
        rim.talk(get("/"))
        gc.collect()
        connection.sendall(b"z" * SMALL_BYTES)
        assert read(connection).endswith(b"z" * size)


def test_header_values_cannot_break_lines(rim: Rim) -> None:
    try:
        found = rim.talk(get("/split"))
    except ConnectionResetError:
        found = b""
    assert b"X-B" not in found


def test_a_client_that_leaves_in_the_middle_of_its_body_is_noticed(rim: Rim) -> None:
    with socket.create_connection(("127.0.0.1", rim.port)) as connection:
        connection.sendall(b"PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc")
    assert rim.talk(get("/")).endswith(b"hello")
