"""HTTP to where users said: one request, one answer, on the event loop, for whoever delivers to web servers.

    answer = await post("https://example.org/hook", body, {"Content-Type": "application/json"}, timeout_s=15, own=cloud.endpoint)

No redirect is followed, no proxy asked, no connection kept: endpoints come and go. A user and password in the URL become basic
authentication. Whatever fails on the way (no such host, refused, no valid certificate, too slow, no HTTP) is `Unreachable`.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Final
from urllib.parse import unquote, urlsplit

import httptools

from pilvi.core.errors import Denied, Unavailable

MOST_BYTES: Final = 1 << 20
"""Of an answer's body; the rest is not read."""


class Unreachable(Unavailable):
    """No answer came."""


@dataclass(slots=True)
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    """Lower-case names."""
    body: bytes = b""


async def post(
    url: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float, method: str = "POST", own: str = ""
) -> Answer:
    """Send a request and wait for its answer.

    own: this server's endpoint; Denied for its inner paths (`/_pilvi/...`), by whatever name and address they are meant.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await _exchange(url, body, headers, method, own)
    except TimeoutError:
        raise Unreachable(f"no answer within {timeout_s:g} seconds") from None
    except (OSError, ssl.SSLError, httptools.HttpParserError, UnicodeError, ValueError) as error:
        raise Unreachable(f"{type(error).__name__}: {error}") from error


async def _exchange(url: str, body: bytes, headers: Mapping[str, str], method: str, own: str) -> Answer:
    parts = urlsplit(url)
    is_tls = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if is_tls else 80)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    reader, writer = await asyncio.open_connection(host, port, ssl=_tls() if is_tls else None)
    try:
        if own and target.startswith("/_pilvi") and _is_here(writer, own):
            raise Denied("This server does not send requests to its own inner paths.")
        writer.write(
            _head(method, target, parts.netloc.rpartition("@")[2], _with_user(parts.username, parts.password, headers), len(body))
        )
        writer.write(body)
        await writer.drain()
        return await _answer(reader, method)
    finally:
        writer.close()
        with suppress(OSError, ssl.SSLError):
            await writer.wait_closed()


def _is_here(writer: asyncio.StreamWriter, own: str) -> bool:
    """Whether the other end is this server: this machine, and its port."""
    there, here = writer.get_extra_info("peername"), writer.get_extra_info("sockname")
    return bool(there and here) and there[1] == urlsplit(own).port and (there[0] == here[0] or there[0] in ("127.0.0.1", "::1"))


@cache
def _tls() -> ssl.SSLContext:
    """Certificates are checked by what this machine trusts (SSL_CERT_FILE adds to it)."""
    return ssl.create_default_context()


def _with_user(user: str | None, password: str | None, headers: Mapping[str, str]) -> Mapping[str, str]:
    if not user:
        return headers
    word = base64.b64encode(f"{unquote(user)}:{unquote(password or '')}".encode()).decode()
    return {**headers, "Authorization": f"Basic {word}"}


def _head(method: str, target: str, host: str, headers: Mapping[str, str], length: int) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", f"Content-Length: {length}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a header holds a line break")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8")


class _Listener:
    """What httptools tells while it reads."""

    def __init__(self) -> None:
        self.answer = Answer()
        self.pieces: list[bytes] = []
        self.size = 0
        self.is_complete = False
        self.is_begun = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.answer.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.is_begun = True

    def on_body(self, piece: bytes) -> None:
        self.size += len(piece)
        if self.size <= MOST_BYTES:
            self.pieces.append(piece)

    def on_message_complete(self) -> None:
        self.is_complete = True


async def _answer(reader: asyncio.StreamReader, method: str) -> Answer:
    listener = _Listener()
    parser = httptools.HttpResponseParser(listener)
    read = 0
    while not listener.is_complete and listener.size <= MOST_BYTES:
        data = await reader.read(1 << 16)
        read += len(data)
        if not data or read > 2 * MOST_BYTES:
            break
        parser.feed_data(data)
        if listener.is_begun:
            listener.answer.status = parser.get_status_code()
            if method == "HEAD":
                break
            if 100 <= listener.answer.status < 200:  # 100 Continue: the answer follows
                listener, parser = _renewed()
    if not listener.is_begun:
        raise Unreachable("the connection was closed without an answer")
    listener.answer.body = _unpacked(b"".join(listener.pieces), listener.answer.headers.get("content-encoding", ""))
    return listener.answer


def _unpacked(body: bytes, encoding: str) -> bytes:
    """As it was before it was compressed, as far as it may be long."""
    if encoding.lower() not in ("gzip", "deflate"):
        return body
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(body, MOST_BYTES)
    except zlib.error:
        return body


def _renewed() -> tuple[_Listener, httptools.HttpResponseParser]:
    listener = _Listener()
    return listener, httptools.HttpResponseParser(listener)
