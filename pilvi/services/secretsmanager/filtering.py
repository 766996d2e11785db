"""Filters and pages of lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pilvi.core.errors import Invalid, ServiceError
from pilvi.core.paging import decode_token, encode_token


def fits(secret: Mapping[str, Any], filters: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a secret meets every filter: a value of it begins with one of the filter's ('!' turns one round).

    Source: Secrets Manager API Reference, Filter.
    """
    return all(_fits_one(secret, entry["Key"], entry["Values"]) for entry in filters)


def _fits_one(secret: Mapping[str, Any], key: str, values: Sequence[str]) -> bool:
    texts = _texts_of(secret, key)
    fold = key in ("description", "all")
    for value in values:
        is_not, wanted = value.startswith("!"), value.removeprefix("!")
        if fold:
            words = [word.lower() for text in texts for word in [text, *text.split()]]
            found = any(word.startswith(wanted.lower()) for word in words)
        else:
            found = any(text.startswith(wanted) for text in texts)
        if found is not is_not:
            return True
    return False


def _texts_of(secret: Mapping[str, Any], key: str) -> list[str]:
    tags = secret["Tags"]
    texts = {
        "name": [secret["Name"]],
        "description": [secret["Description"]],
        "tag-key": [tag["Key"] for tag in tags],
        "tag-value": [tag.get("Value", "") for tag in tags],
        "primary-region": [secret["PrimaryRegion"]],
        "owning-service": [""],
    }
    return (
        texts[key] if key in texts else [text for name in ("name", "description", "tag-key", "tag-value") for text in texts[name]]
    )


def paged(items: Sequence[Any], req: Mapping[str, Any], *, default: int) -> tuple[list[Any], dict[str, Any]]:
    """One page, and the token of the next. InvalidNextTokenException for a foreign one."""
    try:
        position = decode_token(req.get("NextToken"))
        start = int(position) if position else 0
    except (Invalid, ValueError):
        raise ServiceError("InvalidNextTokenException", "Invalid token.") from None
    limit = req.get("MaxResults") or default
    more = encode_token(str(start + limit)) if len(items) > start + limit else None
    return list(items[start : start + limit]), {"NextToken": more} if more else {}
