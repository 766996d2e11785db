"""Pages of what IAM lists: MaxItems and Marker in, IsTruncated and Marker out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pilvi.core.paging import decode_token, encode_token
from pilvi.storage.records import Rows

DEFAULT_PAGE = 100
"""Source: IAM API reference, ListUsers, MaxItems."""

Pairs = Iterable[tuple[str, Any]]
"""(id, what is shown), ascending by id."""


def page(req: Mapping[str, Any], member: str, pairs_after: Callable[[str], Pairs]) -> dict[str, Any]:
    """One page. `pairs_after` gives what comes after an id; it is drawn from only as far as the page needs."""
    limit = req.get("MaxItems", DEFAULT_PAGE)
    found: list[Any] = []
    last = ""
    for id, shown in pairs_after(decode_token(req.get("Marker"))):
        if len(found) == limit:
            return {member: found, "IsTruncated": True, "Marker": encode_token(last)}
        found.append(shown)
        last = id
    return {member: found, "IsTruncated": False}


def rows_after(rows: Rows, after: str, prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a table behind an id, fetched in strides."""
    while batch := rows.scan(prefix=prefix, after=after, limit=200):
        for row in batch:
            yield row.id, row.value
        after = batch[-1].id


def sorted_after(pairs: Mapping[str, Any], after: str) -> Iterator[tuple[str, Any]]:
    """The entries of a small mapping behind a key, in order."""
    return ((key, pairs[key]) for key in sorted(pairs) if key > after)
