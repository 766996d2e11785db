"""What a service tells CloudWatch of its resources, every minute: counted in memory, published as the service itself.

    FIGURES = Figures("scheduler", "AWS/Scheduler")

    FIGURES.add(cloud, account, region, by(ScheduleGroup=group), "InvocationAttemptCount")     from any thread
    Periodic("metrics", 60.0, FIGURES.publish, FIGURES.has_work)                               in the service's schedule

A server that is killed loses what it counted in its last minute.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from pilvi.core.principal import Principal
from pilvi.core.service import Context

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

Dimensions = tuple[tuple[str, str], ...]
"""Names and values, in the order in which they are told."""

_AT_ONCE: Final = 500
_MOST_VALUES: Final = 150
"""Of one datum. Source: PutMetricData."""


def by(**named: str) -> Dimensions:
    return tuple(named.items())


class _Counts:
    """One set of dimensions since it was told last."""

    __slots__ = ("sums", "tops", "values")

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.tops: dict[str, float] = {}
        self.values: dict[str, tuple[str, dict[float, int]]] = {}
        """Unit, and how often each value was seen, by metric."""


class _Memory:
    """All of a service's in one process."""

    __slots__ = ("counts", "lock")

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str, Dimensions], _Counts] = {}
        self.lock = threading.Lock()

    def of(self, account: str, region: str, dimensions: Dimensions) -> _Counts:
        """With the lock held."""
        key = (account, region, dimensions)
        found = self.counts.get(key)
        if found is None:
            found = self.counts[key] = _Counts()
        return found


class Figures:
    """One namespace of one service. What was counted lives in the cloud's memory."""

    def __init__(self, service: str, namespace: str, principal: str = "") -> None:
        """principal: who publishes; `<service>.amazonaws.com` unless it is said."""
        self._service = service
        self._namespace = namespace
        self._principal = principal or f"{service}.amazonaws.com"
        self._key = f"{service}:figures:{namespace}"

    def add(self, cloud: Cloud, account: str, region: str, dimensions: Dimensions, metric: str, many: float = 1.0) -> None:
        """So many more of them in this minute."""
        memory = self._memory(cloud)
        with memory.lock:
            sums = memory.of(account, region, dimensions).sums
            sums[metric] = sums.get(metric, 0.0) + many

    def took(
        self, cloud: Cloud, account: str, region: str, dimensions: Dimensions, metric: str, value: float, unit: str = "Milliseconds"
    ) -> None:
        """One of many values, kept to three digits."""
        short = float(f"{value:.3g}")
        memory = self._memory(cloud)
        with memory.lock:
            _, found = memory.of(account, region, dimensions).values.setdefault(metric, (unit, {}))
            found[short] = found.get(short, 0) + 1

    def most(self, cloud: Cloud, account: str, region: str, dimensions: Dimensions, metric: str, many: float) -> None:
        """The most there were at a time in this minute."""
        memory = self._memory(cloud)
        with memory.lock:
            tops = memory.of(account, region, dimensions).tops
            tops[metric] = max(tops.get(metric, 0.0), many)

    def has_work(self, cloud: Cloud) -> bool:
        return self._key in cloud.memory and bool(self._memory(cloud).counts)

    def publish(self, cloud: Cloud) -> None:
        """Everything since the last time. In a thread."""
        memory = self._memory(cloud)
        with memory.lock:
            taken, memory.counts = memory.counts, {}
        places: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for (account, region, dimensions), counts in taken.items():
            places.setdefault((account, region), []).extend(_data(dimensions, counts))
        for (account, region), data in places.items():
            self.put(cloud, account, region, data)

    def put(self, cloud: Cloud, account: str, region: str, data: Sequence[Mapping[str, Any]]) -> None:
        """What was counted elsewhere, as MetricData. In a thread."""
        principal = Principal("service", account, "", self._principal, self._principal)
        ctx = Context(cloud, principal=principal, account=account, region=region, service=self._service)
        for start in range(0, len(data), _AT_ONCE):
            ctx.call("cloudwatch", "PutMetricData", Namespace=self._namespace, MetricData=data[start : start + _AT_ONCE])

    def _memory(self, cloud: Cloud) -> _Memory:
        found: _Memory | None = cloud.memory.get(self._key)
        if found is None:
            found = cloud.memory.setdefault(self._key, _Memory())
        return found


def _data(dimensions: Dimensions, counts: _Counts) -> Iterator[dict[str, Any]]:
    base = {"Dimensions": [{"Name": name, "Value": value} for name, value in dimensions]}
    for metric, many in (*counts.sums.items(), *counts.tops.items()):
        yield base | {"MetricName": metric, "Value": float(many), "Unit": "Count"}
    for metric, (unit, found) in counts.values.items():
        pairs = sorted(found.items())
        for start in range(0, len(pairs), _MOST_VALUES):
            some = pairs[start : start + _MOST_VALUES]
            values = {"Values": [value for value, _ in some], "Counts": [float(many) for _, many in some]}
            yield base | {"MetricName": metric, "Unit": unit, **values}
