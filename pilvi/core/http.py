"""The tiny request and response that everything above the HTTP rim speaks, whatever server carries it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pilvi.core.streams import ByteStream


@dataclass(slots=True, init=False)
class Request:
    """One HTTP request as it stood on the wire."""

    method: str
    raw_path: str
    """The path as sent, percent-encoding untouched (signatures are made over it), without the query string."""
    query: str
    """The raw query string without '?', percent-encoding untouched."""
    headers: Mapping[str, str]
    """Lower-case names; repeated headers joined by ','."""
    body: ByteStream
    scheme: str
    client: str
    """Address of the peer (aws:SourceIp)."""
    tls: str
    """The version of TLS it came with: "1.3"; '' for none."""
    is_gone: bool = field(init=False)
    """Nobody waits for the answer any more."""
    on_gone: Callable[[], None] | None = field(init=False)
    """Called when that happens, on the loop: for who waits long."""

    def __init__(
        self,
        method: str,
        raw_path: str,
        query: str,
        headers: Mapping[str, str],
        body: ByteStream | None = None,
        scheme: str = "http",
        client: str = "127.0.0.1",
        tls: str = "",
    ) -> None:
        # By hand: what dataclasses write stays Python where this module is compiled.
        self.method = method
        self.raw_path = raw_path
        self.query = query
        self.headers = headers
        self.body = body if body is not None else ByteStream(b"")
        self.scheme = scheme
        self.client = client
        self.tls = tls
        self.is_gone = False
        self.on_gone = None

    def leave(self) -> None:
        """The client went away before it was answered."""
        self.is_gone = True
        if self.on_gone is not None:
            self.on_gone()

    def header(self, name: str, default: str = "") -> str:
        return self.headers.get(name, default)

    @property
    def host(self) -> str:
        """The Host header, in lower case, with its port."""
        return self.headers.get("host", "").lower()


@dataclass(slots=True)
class Response:
    """One HTTP response; a ByteStream body without length is sent chunked."""

    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes | ByteStream = b""
