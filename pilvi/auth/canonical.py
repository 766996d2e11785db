"""The canonical form of a request, as Signature Version 4 signs it.

Clients percent-encode differently (`~` or `%7E`, `%2f` or `%2F`); AWS decodes what it receives and encodes it again in one
way. Text that is in that one way already, which is nearly all of it, passes through without being touched.

Source: IAM User Guide, "Create a signed AWS API request".
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any
from urllib.parse import quote, unquote_to_bytes

_UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
_PATH_PLAIN = _UNRESERVED + b"/"
_QUERY_PLAIN = _UNRESERVED + b"=&"

_KEPT_CHARACTERS = 128

EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def wire_bytes(text: str) -> bytes:
    """The bytes a header line or path had on the wire: ASCII nearly always, else Latin-1 as HTTP servers decode it."""
    if text.isascii():
        return text.encode()
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def s3_path(raw: str) -> str:
    """Encoded once, never normalised: `//` and `..` are parts of keys."""
    wire = wire_bytes(raw)
    if not wire.translate(None, _PATH_PLAIN):
        return raw or "/"
    return quote(unquote_to_bytes(wire), safe="/~")


def other_path(raw: str) -> str:
    """Normalised and encoded twice, as every service but S3 wants it."""
    if raw in ("/", ""):
        return "/"
    wire = wire_bytes(raw)
    once = raw if not wire.translate(None, _PATH_PLAIN) else quote(unquote_to_bytes(wire), safe="/~")
    return quote(remove_dots(once), safe="/~")


def other_path_as_sent(raw: str) -> str:
    """The same, from the letters on the wire: what clients sign that never decode their own URL."""
    return quote(wire_bytes(remove_dots(raw or "/")), safe="/~")


def remove_dots(path: str) -> str:
    """The path without empty, `.` and `..` segments; a slash at its end stays."""
    out: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            if out:
                out.pop()
        elif segment and segment != ".":
            out.append(segment)
    if not out:
        return "/"
    return f"/{'/'.join(out)}{'/' if path.endswith('/') else ''}"


def query(raw: str, *, without: str | None = None) -> str:
    """Pairs encoded anew and sorted by name, then value; the parameter `without` is left out."""
    if not raw:
        return ""
    pairs = []
    plain = not wire_bytes(raw).translate(None, _QUERY_PLAIN)
    for pair in raw.split("&"):
        if not pair:
            continue
        name, _, value = pair.partition("=")
        if name == without:
            continue
        pairs.append((name, value) if plain and "=" not in value else (_encoded(name), _encoded(value)))
    pairs.sort()
    return "&".join([f"{name}={value}" for name, value in pairs])


def query_as_sent(raw: str, *, without: str | None = None) -> str:
    """Sorted but not encoded anew: what clients sign that take their own URL literally (a `+` that stays a `+`)."""
    pairs = [(name, value) for name, _, value in (pair.partition("=") for pair in raw.split("&")) if name != without] if raw else []
    return "&".join([f"{name}={value}" for name, value in sorted(pairs)])


def _encoded(text: str) -> str:
    return _encoded_once(text) if len(text) < _KEPT_CHARACTERS else _encode(text)


def _encode(text: str) -> str:
    wire = wire_bytes(text)
    if not wire.translate(None, _UNRESERVED):
        return text
    return quote(unquote_to_bytes(wire.replace(b"+", b" ")), safe="-_.~")


_encoded_once = lru_cache(maxsize=1024)(_encode)
"""Names and values come again and again; long ones are not kept."""


def headers(names: Iterable[str], values: Mapping[str, str]) -> str:
    """`name:value` lines in order, white space folded; a header that did not arrive counts as empty."""
    lines = []
    for name in names:
        value = values.get(name, "")
        if "  " in value or "\t" in value or value[:1] == " " or value[-1:] == " ":
            value = " ".join(value.split())
        lines.append(f"{name}:{value}\n")
    return "".join(lines)


@lru_cache(maxsize=1024)
def signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    """The key of a day, Region and service, derived from a secret."""
    key = hmac.digest(b"AWS4" + secret.encode(), date.encode(), "sha256")
    for part in (region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def mac(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA256. Many messages are signed by few keys, so the key's half of the work is kept."""
    inner, outer = _halves(key)
    inner, outer = inner.copy(), outer.copy()
    inner.update(message)
    outer.update(inner.digest())
    signature: bytes = outer.digest()
    return signature


@lru_cache(maxsize=1024)
def _halves(key: bytes) -> tuple[Any, Any]:
    """The two hashes of RFC 2104 after the key's block. Keys here are digests, so never longer than a block."""
    block = key.ljust(64, b"\0")
    return sha256(bytes([byte ^ 0x36 for byte in block])), sha256(bytes([byte ^ 0x5C for byte in block]))


def same(one: str, other: str) -> bool:
    """Equality that takes the same time wherever the difference lies."""
    return hmac.compare_digest(wire_bytes(one), wire_bytes(other))


@lru_cache(maxsize=256)
def seconds_of(stamp: str) -> float | None:
    """`20260102T030405Z` as seconds since 1970, or None when it is not such a stamp."""
    if len(stamp) != 16 or stamp[8] != "T" or stamp[15] != "Z" or not stamp.isascii():
        return None
    digits = stamp[:8] + stamp[9:15]
    if not digits.isdigit():
        return None
    try:
        return datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


@lru_cache(maxsize=256)
def stamp_of_http_date(text: str) -> str:
    """An HTTP date (or a stamp or ISO date in the Date header) as `20260102T030405Z`; '' when it is none."""
    if seconds_of(text) is not None:
        return text
    try:
        instant = _http_date(text) or datetime.fromisoformat(text)
        return stamp_of(instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant)
    except (ValueError, OverflowError):
        return ""


def _http_date(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


def stamp_of(instant: datetime | float) -> str:
    """An instant in the form that signatures use."""
    if not isinstance(instant, datetime):
        instant = datetime.fromtimestamp(instant, UTC)
    return instant.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def iso_of(instant: float) -> str:
    """An instant as S3's error fields show it: 2026-01-02T03:04:05Z."""
    return datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
