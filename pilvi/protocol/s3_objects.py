"""The objects of a listing as XML: the innermost loop of ListObjects, compiled (decisions/0006)."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from pilvi.core.listed import ListedRow
from pilvi.protocol.xml import escape

_DAY_S: Final = 86400
_TWO = [f"{number:02}" for number in range(60)]


def write_objects(rows: list[ListedRow], *, is_encoded: bool) -> str:
    """`<Contents>` for each. ETags, algorithms and types are the server's own words and hold nothing to escape."""
    parts: list[str] = []
    last_s = -1
    when = ""
    for key, mtime_s, etag, size, algorithm, checksum_type, storage_class in rows:
        if mtime_s != last_s:
            last_s, when = mtime_s, _instant(mtime_s)
        class_ = storage_class if storage_class == "STANDARD" else escape(storage_class)
        parts.append(
            f'<Contents><Key>{key if is_encoded else escape(key)}</Key><LastModified>{when}</LastModified><ETag>"{etag}"</ETag>'
            f"<ChecksumAlgorithm>{algorithm}</ChecksumAlgorithm><ChecksumType>{checksum_type}</ChecksumType>"
            f"<Size>{size}</Size><StorageClass>{class_}</StorageClass></Contents>"
        )
    return "".join(parts)


def _instant(mtime_s: int) -> str:
    day, second = divmod(mtime_s, _DAY_S)
    hour, second = divmod(second, 3600)
    minute, second = divmod(second, 60)
    return f"{_date(day)}T{_TWO[hour]}:{_TWO[minute]}:{_TWO[second]}.000Z"


@lru_cache(maxsize=1024)
def _date(day: int) -> str:
    return datetime.fromtimestamp(day * _DAY_S, UTC).strftime("%Y-%m-%d")
