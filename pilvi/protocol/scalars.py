"""Single values as text and numbers: timestamps in three formats, blobs, floats, booleans."""

from __future__ import annotations

import binascii
import math
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

from pilvi.core.streams import ByteStream
from pilvi.protocol.shapes import Malformed

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_SPECIAL_FLOATS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def parse_epoch(value: float) -> datetime:
    """Seconds since 1970 as an instant, to the microsecond."""
    try:
        return _EPOCH + timedelta(seconds=value) if type(value) is int else _EPOCH + timedelta(microseconds=round(value * 1e6))
    except (OverflowError, ValueError):
        raise Malformed("timestamp out of range") from None


def parse_timestamp(value: Any) -> datetime:
    """An instant in any format AWS takes: epoch seconds (number or text), ISO 8601, RFC 822."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return parse_epoch(value)
    if not isinstance(value, str):
        raise Malformed("not a timestamp")
    try:
        instant = datetime.fromisoformat(value)
    except ValueError:
        instant = _parse_timestamp_text(value)
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)


def _parse_timestamp_text(text: str) -> datetime:
    try:
        return parse_epoch(float(text))
    except Malformed:
        raise
    except ValueError:
        pass
    try:
        return parsedate_to_datetime(text)
    except ValueError:
        raise Malformed(f"Unable to parse timestamp: {text}") from None


def _utc(instant: datetime) -> datetime:
    if instant.tzinfo is None or instant.tzinfo is UTC:
        return instant
    return instant.astimezone(UTC)


def iso8601(instant: datetime) -> str:
    """2026-01-02T03:04:05Z, with milliseconds where there are any."""
    text = _utc(instant).isoformat(timespec="milliseconds")[:23]
    return (text[:19] if text.endswith(".000") else text) + "Z"


def iso8601_millis(instant: datetime) -> str:
    """2026-01-02T03:04:05.000Z: S3 always writes milliseconds."""
    return _utc(instant).isoformat(timespec="milliseconds")[:23] + "Z"


@lru_cache(maxsize=4096)
def rfc822(instant: datetime) -> str:
    """Fri, 02 Jan 2026 03:04:05 GMT"""
    t = _utc(instant)
    day, month = _DAYS[t.weekday()], _MONTHS[t.month - 1]
    return f"{day}, {t.day:02} {month} {t.year:04} {t.hour:02}:{t.minute:02}:{t.second:02} GMT"


def epoch(instant: datetime) -> int | float:
    """Seconds since 1970; a whole number where it is one, else to the millisecond."""
    delta = (instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)) - _EPOCH
    seconds = delta.days * 86400 + delta.seconds
    millis = delta.microseconds // 1000
    return (seconds * 1000 + millis) / 1000 if millis else seconds


TIMESTAMP_WRITERS = {"iso8601": iso8601, "rfc822": rfc822, "unixtimestamp": epoch}


def timestamp_writer(trait: str | None, default: str) -> Any:
    """How a timestamp with this `timestampFormat` is written."""
    return TIMESTAMP_WRITERS[(trait or default).lower()]


def write_timestamp(writer: Any, value: Any) -> Any:
    """A timestamp a handler gave: an instant, or epoch seconds."""
    return writer(value if isinstance(value, datetime) else parse_timestamp(value))


def parse_blob(text: str) -> bytes:
    """Base 64, strict about its alphabet, lenient about line breaks."""
    try:
        return binascii.a2b_base64(text.encode("ascii"))
    except (binascii.Error, UnicodeEncodeError):
        raise Malformed("Invalid base64 data") from None


def blob_bytes(value: Any) -> bytes:
    """A blob a handler gave, as bytes."""
    if type(value) is bytes:
        return value
    return ByteStream.of(value).read_now()


def write_blob(value: Any) -> str:
    return b64encode(blob_bytes(value)).decode("ascii")


def parse_int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise Malformed(f"Unable to parse '{text}' as an integer") from None


def parse_float(text: str) -> float:
    special = _SPECIAL_FLOATS.get(text)
    if special is not None:
        return special
    try:
        return float(text)
    except ValueError:
        raise Malformed(f"Unable to parse '{text}' as a number") from None


def write_float(value: Any) -> str:
    """As text: NaN, Infinity and -Infinity by name."""
    if isinstance(value, int):
        return str(value)
    number = float(value)
    if math.isfinite(number):
        return repr(number)
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def json_float(value: Any) -> Any:
    """As a JSON number, or as a name where JSON has none."""
    if isinstance(value, int):
        return value
    number = float(value)
    return number if math.isfinite(number) else write_float(number)


def parse_bool(text: str) -> bool:
    lowered = text.lower()
    if lowered == "true" or lowered == "1":
        return True
    if lowered == "false" or lowered == "0":
        return False
    raise Malformed(f"Unable to parse '{text}' as a boolean")


def write_bool(value: Any) -> str:
    return "true" if value else "false"


def text_of(value: Any) -> str:
    """A string member a handler gave, forgiving numbers."""
    return value if isinstance(value, str) else write_bool(value) if isinstance(value, bool) else str(value)
