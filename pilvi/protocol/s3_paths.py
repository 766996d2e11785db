"""S3's paths: account, bucket or object by how much of a path there is, then the operation by query string and headers.

The same scores as paths.py gives, without a tree: S3 is asked most often and every key is its own path.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote

from pilvi.protocol.paths import Query, Route, route_of, score_of

_LEVELS = {"/": 0, "/{Bucket}": 1, "/{Bucket}/{Key+}": 2}
_TELLING_HEADERS = ("x-amz-copy-source", "x-amz-rename-source")


class S3Templates:
    """Operations by method and level."""

    def __init__(self, operations: Mapping[str, Mapping[str, Any]], shapes: Mapping[str, Mapping[str, Any]]) -> None:
        self._routes: dict[tuple[str, int], list[Route]] = {}
        for name, operation in operations.items():
            level = _LEVELS.get(operation["http"]["requestUri"].partition("?")[0])
            if level is not None:
                key = (operation["http"]["method"], level)
                self._routes.setdefault(key, []).append(route_of(name, operation, [], shapes))
        self._plain = {key: _best(routes, {}, {}) for key, routes in self._routes.items()}
        """The operation of a request with neither query string nor telling headers."""

    def match(
        self, method: str, raw_path: str, query: Query, headers: Mapping[str, str], bucket: str = ""
    ) -> tuple[str, dict[str, str]] | None:
        """The operation and its labels. bucket: the one the host names; '' takes it from the path."""
        raw_key = raw_path[1:]
        if not bucket:
            bucket, _, raw_key = raw_key.partition("/")
            bucket = unquote(bucket) if "%" in bucket else bucket
        if raw_key:
            labels = {"Bucket": bucket, "Key": unquote(raw_key) if "%" in raw_key else raw_key}
        else:
            labels = {"Bucket": bucket} if bucket else {}
        key = (method, len(labels))
        if not query and not any(name in headers for name in _TELLING_HEADERS):
            operation = self._plain.get(key)
        else:
            operation = _best(self._routes.get(key, ()), query, headers)
        return None if operation is None else (operation, labels)


def _best(routes: Iterable[Route], query: Query, headers: Mapping[str, str]) -> str | None:
    scored = [(score, route.operation) for route in routes if (score := score_of(route, query, headers)) is not None]
    return max(scored, key=lambda pair: pair[0])[1] if scored else None
