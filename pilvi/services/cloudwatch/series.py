"""Where data points are kept: under their metric, in the order of time.

    Metric   key -> namespace, name, dimensions, second of the newest point
    Point    key \\0 second \\0 number -> count, sum, minimum, maximum, the values themselves where they were given, unit

A metric is its namespace, name and set of dimensions; the key is a digest of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pilvi.core.service import Context
from pilvi.services.cloudwatch.statistic import Point
from pilvi.storage.records import Change

Dimensions = Sequence[Mapping[str, str]]

METRIC, POINT = "Metric", "Point"


def key_of(namespace: str, name: str, dimensions: Dimensions) -> str:
    """The key of a metric; the order of its dimensions does not matter."""
    pairs = sorted((dimension["Name"], dimension["Value"]) for dimension in dimensions)
    return hashlib.sha256(json.dumps([namespace, name, pairs]).encode()).hexdigest()[:32]


def keep(ctx: Context, namespace: str, entries: Iterable[tuple[str, Dimensions, Point]]) -> None:
    """Write points, all or none: (metric name, dimensions, point)."""
    metrics, points = ctx.records(METRIC), ctx.records(POINT)
    newest: dict[str, dict[str, Any]] = {}
    changes: list[Change] = []
    for name, dimensions, point in entries:
        key = key_of(namespace, name, dimensions)
        changes.append(points.replacement(f"{key}\0{point.second:012d}\0{ctx.ids.hex(8)}", point.as_record()))
        known = newest.get(key) or metrics.find(key)
        if known is None or known["last"] < point.second:
            newest[key] = {
                "Namespace": namespace,
                "MetricName": name,
                "Dimensions": [dict(dimension) for dimension in dimensions],
                "last": point.second,
            }
    ctx.write(*(metrics.replacement(key, metric) for key, metric in newest.items()), *changes)


def read(ctx: Context, namespace: str, name: str, dimensions: Dimensions, start_s: int, end_s: int) -> Iterator[Point]:
    """The points of a metric from start up to (not including) end, in order."""
    points, key = ctx.records(POINT), key_of(namespace, name, dimensions)
    after, before = f"{key}\0{start_s:012d}", f"{key}\0{end_s:012d}"
    while rows := points.scan(prefix=f"{key}\0", after=after, before=before):
        for row in rows:
            yield Point.of_record(int(row.id.split("\0")[1]), row.value)
        after = rows[-1].id
