"""A page of a bucket's listing: a thousand objects as plain rows, so that whoever writes them out needs no dictionary for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, overload


class ListedObject(NamedTuple):
    key: str
    """As the client sees it, percent-encoded where it asked for that."""
    mtime_s: int
    etag: str
    """Without its quotes."""
    size: int
    algorithm: str
    checksum_type: str
    storage_class: str


class Listed(Sequence[dict[str, Any]]):
    """To everybody a list of `Contents` members as the API names them; to the XML writer, `rows`."""

    def __init__(self, rows: list[ListedObject]) -> None:
        self.rows = rows

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


def member_of(row: ListedObject) -> dict[str, Any]:
    return {
        "Key": row.key,
        "LastModified": datetime.fromtimestamp(row.mtime_s, UTC),
        "ETag": f'"{row.etag}"',
        "ChecksumAlgorithm": [row.algorithm],
        "ChecksumType": row.checksum_type,
        "Size": row.size,
        "StorageClass": row.storage_class,
    }
