"""What CloudWatch is told of functions, every minute: namespace AWS/Lambda.

Each figure stands three times: by FunctionName, by FunctionName and Resource (`name:alias`, `name:version`) where a call named one, and
for all functions of the account together.

Source: developer guide, "Types of metrics for Lambda functions". Differs: what a killed server had counted in its last minute is lost.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from pilvi.core.principal import Principal
from pilvi.core.service import Context

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.services.lambda_.names import FunctionRef

PRINCIPAL: Final = "lambda.amazonaws.com"
NAMESPACE: Final = "AWS/Lambda"
AT_ONCE: Final = 500
MOST_VALUES: Final = 150
"""Of one datum. Source: PutMetricData."""
_MEMORY: Final = "lambda:figures"
_UNITS: Final = {"Duration": "Milliseconds", "AsyncEventAge": "Milliseconds"}
_MOST: Final = frozenset({"ConcurrentExecutions", "UnreservedConcurrentExecutions"})

Key = tuple[str, str, str, str]
"""Account, Region, function ('': all of them), resource."""


class Figures:
    """Counts of one cloud since they were told last. From any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[Key, dict[str, float]] = {}
        self._values: dict[Key, dict[str, dict[float, int]]] = {}

    def add(self, ref: FunctionRef, name: str, many: float = 1.0) -> None:
        with self._lock:
            for key in keys_of(ref):
                found = self._counts.setdefault(key, {})
                found[name] = found.get(name, 0.0) + many

    def took(self, ref: FunctionRef, name: str, milliseconds: float) -> None:
        """One of many values, kept to three digits."""
        value = float(f"{milliseconds:.3g}")
        with self._lock:
            for key in keys_of(ref):
                found = self._values.setdefault(key, {}).setdefault(name, {})
                found[value] = found.get(value, 0) + 1

    def most(self, key: Key, name: str, many: int) -> None:
        with self._lock:
            found = self._counts.setdefault(key, {})
            found[name] = max(found.get(name, 0.0), float(many))

    def ran(self, ref: FunctionRef, duration_ms: float, *, failed: bool) -> None:
        """One invocation came to its end: all of its figures at once."""
        value = float(f"{duration_ms:.3g}")
        with self._lock:
            for key in keys_of(ref):
                counts = self._counts.setdefault(key, {})
                counts["Invocations"] = counts.get("Invocations", 0.0) + 1.0
                counts["Errors"] = counts.get("Errors", 0.0) + failed
                counts.setdefault("Throttles", 0.0)
                values = self._values.setdefault(key, {}).setdefault("Duration", {})
                values[value] = values.get(value, 0) + 1

    def take(self) -> tuple[dict[Key, dict[str, float]], dict[Key, dict[str, dict[float, int]]]]:
        with self._lock:
            found = self._counts, self._values
            self._counts, self._values = {}, {}
        return found

    @property
    def is_empty(self) -> bool:
        return not self._counts and not self._values


def keys_of(ref: FunctionRef) -> Iterator[Key]:
    yield (ref.account, ref.region, "", "")
    yield (ref.account, ref.region, ref.name, "")
    if ref.qualifier:
        yield (ref.account, ref.region, ref.name, f"{ref.name}:{ref.qualifier}")


def figures_of(cloud: Cloud) -> Figures:
    found: Figures | None = cloud.memory.get(_MEMORY)
    if found is None:
        found = cloud.memory.setdefault(_MEMORY, Figures())
    return found


def publish(cloud: Cloud) -> None:
    """What there is to tell since the last time. In a thread."""
    counts, values = figures_of(cloud).take()
    places: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for key in dict.fromkeys((*counts, *values)):
        data = places.setdefault(key[:2], [])
        data += data_of(key, counts.get(key, {}), values.get(key, {}))
    for (account, region), data in places.items():
        principal = Principal("service", account, "", PRINCIPAL, PRINCIPAL)
        ctx = Context(cloud, principal=principal, account=account, region=region, service="lambda")
        for start in range(0, len(data), AT_ONCE):
            ctx.call("cloudwatch", "PutMetricData", Namespace=NAMESPACE, MetricData=data[start : start + AT_ONCE])


def has_work(cloud: Cloud) -> bool:
    return _MEMORY in cloud.memory and not figures_of(cloud).is_empty


def data_of(key: Key, counts: Mapping[str, float], values: Mapping[str, Mapping[float, int]]) -> Iterator[dict[str, Any]]:
    """The data of one set of dimensions."""
    named = {"FunctionName": key[2], "Resource": key[3]}
    base = {"Dimensions": [{"Name": name, "Value": value} for name, value in named.items() if value]}
    for name, many in counts.items():
        yield base | {"MetricName": name, "Value": many, "Unit": "Count"}
    for name, found in values.items():
        pairs = sorted(found.items())
        for start in range(0, len(pairs), MOST_VALUES):
            some = pairs[start : start + MOST_VALUES]
            yield base | {
                "MetricName": name,
                "Values": [value for value, _ in some],
                "Counts": [float(many) for _, many in some],
                "Unit": _UNITS[name],
            }
