"""TLS on the same port, and the server as an HTTPS proxy (`HTTPS_PROXY=http://127.0.0.1:4566`).

    a connection's first byte is TLS's      -> TLS, then HTTP inside
    CONNECT sts.us-east-1.amazonaws.com:443 -> "established", then TLS for that name, then HTTP inside: AWS is here
    CONNECT pypi.org:443                    -> a tunnel to there, for clients on this machine; 403 for all others

So unmodified clients that insist on AWS's own host names find this server. Not compiled, and nothing here runs for plain HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pilvi.gateway.http1 import Connection, HttpServer

if TYPE_CHECKING:
    from pilvi.gateway.authority import Authority

log = logging.getLogger("pilvi.tls")

AWS_SUFFIXES = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws", ".on.aws", ".sagemaker.aws")
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
CONNECT_S = 20.0
_READ_BYTES = 256 << 10
_WRITE_BYTES = 256 << 10


class Secure:
    """What an HttpServer does with what is not plain HTTP."""

    def __init__(self, authority: Callable[[], Authority]) -> None:
        self._authority = authority
        self._tunnels: set[asyncio.Task[None]] = set()

    def begin(self, server: HttpServer, transport: Any, data: bytes) -> None:
        """A connection that began with TLS goes on in TLS; `data` is what came of it."""
        _speak_tls(server, transport, self._authority().context(), data)

    def connect(self, server: HttpServer, transport: Any, target: str, early: bytes) -> None:
        """A client asks to be connected to `host:port`; `early` is what it sent without waiting."""
        host, _, port = target.rpartition(":")
        host = host.strip("[]").lower()
        if not host or not port.isdecimal():
            _refuse(transport, "400 Bad Request", "CONNECT names a host and a port.")
        elif is_ours(host):
            transport.write(ESTABLISHED)
            _speak_tls(server, transport, self._authority().context(host), early)
        elif not _is_loopback(transport):
            _refuse(
                transport, "403 Forbidden", f"{host} is no host of AWS's, and tunnels are for clients on the server's own machine."
            )
        else:
            transport.pause_reading()
            task = server.loop.create_task(self._tunnel(server, transport, (host, int(port)), early))
            self._tunnels.add(task)
            task.add_done_callback(self._tunnels.discard)

    async def _tunnel(self, server: HttpServer, transport: Any, address: tuple[str, int], early: bytes) -> None:
        try:
            async with asyncio.timeout(CONNECT_S):
                far, end = await server.loop.create_connection(lambda: _Pipe(transport), *address)
        except (OSError, TimeoutError, ValueError, OverflowError) as error:  # the name or the port may be none
            _refuse(transport, "502 Bad Gateway", f"{address[0]}:{address[1]} cannot be reached: {error}")
            return
        near = _Pipe(far)
        near.connection_made(transport)
        end.other_end = near
        near.other_end = end
        transport.set_protocol(near)
        transport.write(ESTABLISHED)
        if early:
            far.write(early)
        transport.resume_reading()


def is_ours(host: str) -> bool:
    """Whether a host name is AWS's, or this machine's: both are answered here."""
    return host.endswith(AWS_SUFFIXES) or host == "localhost" or host.endswith(".localhost") or host.startswith("127.")


def _is_loopback(transport: Any) -> bool:
    peer = transport.get_extra_info("peername")
    return not isinstance(peer, tuple) or str(peer[0]).startswith("127.") or peer[0] == "::1"


def _refuse(transport: Any, status: str, message: str) -> None:
    body = message.encode()
    transport.write(
        f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
    )
    transport.close()


def _speak_tls(server: HttpServer, transport: Any, context: ssl.SSLContext, data: bytes) -> None:
    layer = TlsLayer(server, transport, context)
    transport.set_protocol(layer)
    if data:
        layer.data_received(data)


class TlsLayer(asyncio.Protocol):
    """Between a socket's transport and an HTTP connection: a protocol to the one, a transport to the other."""

    def __init__(self, server: HttpServer, transport: Any, context: ssl.SSLContext) -> None:
        self._server = server
        self._transport = transport
        self._from_client, self._to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._from_client, self._to_client, server_side=True)
        self._connection: Connection | None = None
        self._is_closing = False
        self._watch = server.loop.call_later(CONNECT_S, self._too_slow)

    # -- a protocol, to the socket ------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._from_client.write(data)
        try:
            if self._connection is None and not self._shake_hands():
                return
            self._read()
        except ssl.SSLError as error:
            log.debug("TLS: %s", error)
            self._flush()
            self._transport.close()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._watch.cancel()
        self._is_closing = True
        if self._connection is not None:
            self._connection.connection_lost(error)

    def pause_writing(self) -> None:
        if self._connection is not None:
            self._connection.pause_writing()

    def resume_writing(self) -> None:
        if self._connection is not None:
            self._connection.resume_writing()

    # -- a transport, to the connection -------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self._is_closing:
            return
        view = memoryview(data)
        for start in range(0, len(view), _WRITE_BYTES):
            self._tls.write(view[start : start + _WRITE_BYTES])
            self._flush()

    def close(self) -> None:
        if self._is_closing:
            return
        self._is_closing = True
        with suppress(ssl.SSLError):  # the client's own farewell has not come: ours is on its way, and nobody waits
            self._tls.unwrap()
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        self._is_closing = True
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._is_closing

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._tls if name == "ssl_object" else self._transport.get_extra_info(name, default)

    # -- private ------------------------------------------------------------------------------------------------------

    def _shake_hands(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        self._flush()
        self._watch.cancel()
        connection = self._connection = Connection(self._server)
        connection.connection_made(self)
        return True

    def _read(self) -> None:
        assert self._connection is not None
        while not self._is_closing:
            try:
                data = self._tls.read(_READ_BYTES)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                data = b""
            if not data:
                self.close()
                return
            self._connection.data_received(data)
        self._flush()

    def _flush(self) -> None:
        if data := self._to_client.read():
            self._transport.write(data)

    def _too_slow(self) -> None:
        if self._connection is None:
            self.abort()


class _Pipe(asyncio.Protocol):
    """One end of a tunnel: what arrives here goes out over `there`."""

    def __init__(self, there: Any) -> None:
        self._there = there
        self._here: Any = None
        self.other_end: _Pipe | None = None
        self.has_ended = False

    def connection_made(self, transport: Any) -> None:
        self._here = transport

    def data_received(self, data: bytes) -> None:
        self._there.write(data)

    def eof_received(self) -> bool:
        """Nothing more comes from here; the other direction goes on until it ends as well."""
        self.has_ended = True
        if self.other_end is None or self.other_end.has_ended:
            self._there.close()
            return False
        self._there.write_eof()
        return True

    def connection_lost(self, _error: Exception | None) -> None:
        self._there.close()

    def pause_writing(self) -> None:
        """This end takes no more for now: the other one reads no more."""
        if self.other_end is not None:
            self.other_end.hold()

    def resume_writing(self) -> None:
        if self.other_end is not None:
            self.other_end.go_on()

    def hold(self) -> None:
        self._here.pause_reading()

    def go_on(self) -> None:
        self._here.resume_reading()
