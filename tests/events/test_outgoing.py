"""Requests to where users said: answers of every form, and none."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pilvi.core.errors import Denied
from pilvi.events.outgoing import MOST_BYTES, Answer, Unreachable, post

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def exchange(
    answer: bytes, path: str = "/", *, user: str = "", own: bool = False, timeout_s: float = 5.0, **options: Any
) -> tuple[Answer, bytes]:
    """The answer, and what the server heard."""
    heard = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        heard.extend(head)
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        heard.extend(await reader.readexactly(length))
        if answer != b"wait":
            writer.write(answer)
            writer.close()
        else:
            await reader.read()
            writer.close()

    async def run() -> Answer:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            url = f"http://{user}127.0.0.1:{port}{path}"
            endpoint = f"http://127.0.0.1:{port}" if own else ""
            return await post(url, b"body", {"X-One": "1"}, timeout_s=timeout_s, own=endpoint, **options)
        finally:
            server.close()

    return asyncio.run(run()), bytes(heard)


def test_post_sends_and_reads_an_answer() -> None:
    answer, heard = exchange(
        b"HTTP/1.1 201 Created\r\nX-Two: 2\r\nContent-Length: 4\r\n\r\nfine", "/hook?a=b", user="ada:pass%20word@"
    )
    assert (answer.status, answer.body, answer.headers["x-two"]) == (201, b"fine", "2")
    assert heard.startswith(b"POST /hook?a=b HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nX-One: 1\r\n" in heard
    assert b"\r\nAuthorization: Basic YWRhOnBhc3Mgd29yZA==\r\n" in heard
    assert heard.endswith(b"\r\n\r\nbody")


@pytest.mark.parametrize(
    ("raw", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nfi\r\n2\r\nne\r\n0\r\n\r\n", 200, b"fine"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", 202, b""),
        (b"HTTP/1.0 500 No\r\n\r\nto the end", 500, b"to the end"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n", 302, b""),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + zlib.compress(b"small", wbits=31), 200, b"small"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nno gzip", 200, b"no gzip"),
    ],
)
def test_post_understands_answers(raw: bytes, status: int, body: bytes) -> None:
    answer, _ = exchange(raw)
    assert (answer.status, answer.body) == (status, body)


def test_post_reads_only_so_much() -> None:
    answer, _ = exchange(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (3 * MOST_BYTES))
    assert answer.status == 200
    assert len(answer.body) <= MOST_BYTES


@pytest.mark.parametrize("raw", [b"", b"SSH-2.0-none\r\n", b"HTTP/1.1 200", b"wait"])
def test_post_is_unreachable(raw: bytes) -> None:
    with pytest.raises(Unreachable):
        exchange(raw, timeout_s=0.5)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "https://127.0.0.1:1/", "http://no.such.host.invalid/"])
def test_post_to_nobody_is_unreachable(url: str) -> None:
    with pytest.raises(Unreachable):
        asyncio.run(post(url, b"", {}, timeout_s=5))


def test_post_keeps_out_of_its_own_inner_paths() -> None:
    fine = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    assert exchange(fine, "/_aws/lambda-url/x/", own=True)[0].status == 200
    with pytest.raises(Denied):
        exchange(fine, "/_pilvi/reset", own=True)


def test_post_refuses_headers_with_line_breaks() -> None:
    with pytest.raises(Unreachable):
        exchange(b"", "/a\r\nX-Evil:1")
