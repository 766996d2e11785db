"""The head of a plain object request, read in one pass over its bytes.

    GET /bucket/key HTTP/1.1 ... --read_plain--> Plain(method, path, headers, body)

Takes only what every HTTP parser reads alike: a whole head in one piece, `Name: value` lines of visible ASCII, names that plain
requests have, each once, a body of the declared length behind it and nothing more. All else is None, and llhttp's business.
"""

from __future__ import annotations

from typing import Final

METHODS: Final = frozenset({"GET", "HEAD", "PUT", "DELETE"})

HEADERS: Final = frozenset(
    {
        "host",
        "user-agent",
        "accept",
        "accept-encoding",
        "connection",
        "authorization",
        "x-amz-date",
        "x-amz-content-sha256",
        "x-amz-security-token",
        "x-amz-user-agent",
        "x-amz-checksum-mode",
        "amz-sdk-invocation-id",
        "amz-sdk-request",
        "range",
        "content-length",
        "content-type",
        "content-md5",
        "expect",
        "x-amz-sdk-checksum-algorithm",
        "x-amz-checksum-crc32",
        "x-amz-checksum-crc32c",
        "x-amz-checksum-crc64nvme",
        "x-amz-checksum-sha1",
        "x-amz-checksum-sha256",
    }
)
"""What a request may say and be plain: it is understood on the short way, or means nothing to these operations."""

HEAD_BYTES: Final = 8 << 10
AUTHORIZATION: Final = "authorization"

_Line = tuple[str, str]
_LINES: dict[str, _Line] = {}
"""Lines that clients send again and again, as name and value: looked through once."""
_KEPT: Final = 1024
_KEPT_CHARACTERS: Final = 256
_CHANGING: Final = frozenset({"amz-sdk-invocation-id", "content-length", "content-md5", "range", "x-amz-content-sha256"})
"""Lines that are hardly ever the same twice."""


class Plain:
    """One request."""

    __slots__ = ("body", "headers", "method", "path")

    def __init__(self, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body


def read_plain(data: bytes) -> Plain | None:
    """The request that these bytes are, from the first to the last."""
    end = data.find(b"\r\n\r\n", 0, HEAD_BYTES)
    if end < 0:
        return None
    text = data[:end].decode("latin-1")
    if not text.isascii():
        return None
    lines = text.split("\r\n")
    first = lines[0].split(" ")
    if len(first) != 3 or first[2] != "HTTP/1.1" or first[0] not in METHODS:
        return None
    path = first[1]
    if path[:1] != "/" or "?" in path or "#" in path or not path.isprintable():
        return None
    headers: dict[str, str] = {}
    for line in lines[1:]:
        known = _LINES.get(line)
        if known is None and (known := _line_of(line)) is None:
            return None
        name, value = known
        if name in headers:
            return None
        headers[name] = value
    return _with_body(first[0], path, headers, data, end + 4)


def _line_of(line: str) -> _Line | None:
    """Name and value of a header line that every parser reads so; None for others.

    The longest is not looked through here: whoever believes in an Authorization compares its signature letter by letter, and looks
    through the rest of it once (pilvi.auth.plain).
    """
    spelling, colon, value = line.partition(": ")
    name = spelling.lower()
    if not colon or name not in HEADERS or value[:1] == " " or value[-1:] == " ":
        return None
    if name == AUTHORIZATION:
        return (name, value) if "\n" not in value and "\r" not in value else None
    if not value.isprintable():
        return None
    if name not in _CHANGING and len(line) <= _KEPT_CHARACTERS:
        if len(_LINES) >= _KEPT:
            _LINES.clear()
        _LINES[line] = (name, value)
    return name, value


def _with_body(method: str, path: str, headers: dict[str, str], data: bytes, at: int) -> Plain | None:
    """The same with its body, where that is whole and keeping the connection open goes without saying."""
    if "expect" in headers or headers.get("connection", "keep-alive").lower() != "keep-alive":
        return None
    length = headers.get("content-length")
    if length is None:
        return Plain(method, path, headers, b"") if method != "PUT" and len(data) == at else None
    if not (length.isdecimal() and len(length) < 8 and int(length) == len(data) - at):
        return None
    if method == "PUT":
        return Plain(method, path, headers, data[at:])
    return Plain(method, path, headers, b"") if len(data) == at else None
