"""A page of a bucket's listing: a thousand objects as plain rows, so that whoever writes them out needs no dictionary for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, overload

ListedRow = tuple[str, int, str, int, str, str, str]
"""Key, seconds since 1970, ETag without its quotes, size, checksum algorithm and type, storage class. The key is as the client
is to see it: percent-encoded where it asked for that.
"""


class Listed(Sequence[dict[str, Any]]):
    """To everybody a list of `Contents` members as the API names them; to the XML writer, `rows`."""

    def __init__(self, rows: list[ListedRow], *, is_encoded: bool = False) -> None:
        """is_encoded: the keys hold nothing that XML would have to escape."""
        self.rows = rows
        self.is_encoded = is_encoded

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, at: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, at: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, at: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(at, slice):
            return [member_of(row) for row in self.rows[at]]
        return member_of(self.rows[at])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(member_of, self.rows)


def member_of(row: ListedRow) -> dict[str, Any]:
    key, mtime_s, etag, size, algorithm, checksum_type, storage_class = row
    return {
        "Key": key,
        "LastModified": datetime.fromtimestamp(mtime_s, UTC),
        "ETag": f'"{etag}"',
        "ChecksumAlgorithm": [algorithm],
        "ChecksumType": checksum_type,
        "Size": size,
        "StorageClass": storage_class,
    }
