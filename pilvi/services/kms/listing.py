"""Pages, as KMS gives them: Truncated says whether there is more, NextMarker where it begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pilvi.core.errors import Invalid, ServiceError
from pilvi.core.paging import decode_token, encode_token
from pilvi.storage.records import Rows


def page(rows: Rows, req: Mapping[str, Any], *, default: int, prefix: str = "") -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """One page of a table, and what the answer says of the next. InvalidMarkerException for a foreign marker."""
    try:
        found, more = rows.page(req.get("Marker"), req.get("Limit") or default, prefix=prefix)
    except Invalid as error:
        raise _invalid_marker(error) from None
    return found, _next(more)


def page_of(items: Sequence[Any], req: Mapping[str, Any], *, default: int) -> tuple[list[Any], dict[str, Any]]:
    """The same of a short list, by position."""
    try:
        position = decode_token(req.get("Marker"))
        start = int(position) if position else 0
    except (Invalid, ValueError) as error:
        raise _invalid_marker(error) from None
    limit = req.get("Limit") or default
    more = encode_token(str(start + limit)) if len(items) > start + limit else None
    return list(items[start : start + limit]), _next(more)


def _next(more: str | None) -> dict[str, Any]:
    return {"Truncated": more is not None, **({"NextMarker": more} if more else {})}


def _invalid_marker(error: Exception) -> ServiceError:
    return ServiceError("InvalidMarkerException", str(error) or "The marker is not valid.")
