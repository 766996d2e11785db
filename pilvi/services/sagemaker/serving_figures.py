"""What CloudWatch is told of endpoints, every minute: namespace AWS/SageMaker, dimensions EndpointName and VariantName.

Source: developer guide, "Monitor Amazon SageMaker AI with Amazon CloudWatch", endpoint invocation metrics. Latencies are in microseconds.
Differs: what a killed server had counted in its last minute is lost.
"""

from __future__ import annotations

from typing import Any

NAMESPACE = "AWS/SageMaker"
_DIGITS = 3
_MOST_VALUES = 150
"""Source: CloudWatch API reference, MetricDatum: values of one datum."""


class _Counts:
    __slots__ = ("client_errors", "invocations", "latency", "others", "overhead", "server_errors")

    def __init__(self) -> None:
        self.invocations = self.client_errors = self.server_errors = 0
        self.latency: dict[float, int] = {}
        self.overhead: dict[float, int] = {}
        self.others: dict[tuple[str, str], dict[float, int]] = {}
        """(metric, unit) -> value -> how often."""


class Figures:
    """Counts of one endpoint since they were told last. On the event loop."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._by_variant: dict[str, _Counts] = {}

    def count(self, variant: str, status: int, latency_s: float, overhead_s: float) -> None:
        counts = self._by_variant.get(variant)
        if counts is None:
            counts = self._by_variant[variant] = _Counts()
        counts.invocations += 1
        if status >= 500 or status < 200:
            counts.server_errors += 1
        elif status >= 400:
            counts.client_errors += 1
        for found, seconds in ((counts.latency, latency_s), (counts.overhead, overhead_s)):
            value = _rounded(seconds * 1e6)
            found[value] = found.get(value, 0) + 1

    def note(self, variant: str, metric: str, value: float, unit: str = "Microseconds") -> None:
        """A value of another metric."""
        counts = self._by_variant.setdefault(variant, _Counts())
        found = counts.others.setdefault((metric, unit), {})
        value = _rounded(value)
        found[value] = found.get(value, 0) + 1

    def taken(self, instances: dict[str, int]) -> list[dict[str, Any]]:
        """The data of every variant, and the counts begin again. instances: how many each variant has."""
        by_variant, self._by_variant = self._by_variant, {}
        return [datum for name, counts in by_variant.items() for datum in _data(self.name, name, counts, instances.get(name) or 1)]


def _data(endpoint: str, variant: str, counts: _Counts, instances: int) -> list[dict[str, Any]]:
    dimensions = [{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": variant}]

    def sums(name: str, value: float, ones: int) -> dict[str, Any]:
        """A count whose samples are requests: the sum is what matters."""
        statistics = {
            "SampleCount": float(counts.invocations),
            "Sum": float(value),
            "Minimum": 0.0 if value < ones else 1.0,
            "Maximum": 1.0 if value else 0.0,
        }
        return {"MetricName": name, "Dimensions": dimensions, "Unit": "None", "StatisticValues": statistics}

    found: list[dict[str, Any]] = []
    counted = [
        sums("Invocations", counts.invocations, counts.invocations),
        sums("Invocation4XXErrors", counts.client_errors, counts.invocations),
        sums("Invocation5XXErrors", counts.server_errors, counts.invocations),
        sums("InvocationModelErrors", counts.client_errors + counts.server_errors, counts.invocations),
        sums("InvocationsPerInstance", counts.invocations / instances, counts.invocations),
    ]
    if counts.invocations:
        found += counted
    measured = {
        ("ModelLatency", "Microseconds"): counts.latency,
        ("OverheadLatency", "Microseconds"): counts.overhead,
        **counts.others,
    }
    found += [
        {
            "MetricName": name,
            "Dimensions": dimensions,
            "Unit": unit,
            "Values": list(some),
            "Counts": [float(count) for count in some.values()],
        }
        for (name, unit), values in measured.items()
        for some in _portions(values)
    ]
    return found


def backlog_data(endpoint: str, backlog: int, instances: int) -> list[dict[str, Any]]:
    """Of asynchronous endpoints. Source: developer guide, "Monitor asynchronous endpoint", common endpoint metrics."""
    values = {
        "ApproximateBacklogSize": backlog,
        "ApproximateBacklogSizePerInstance": backlog / max(1, instances),
        "HasBacklogWithoutCapacity": 1 if backlog and not instances else 0,
    }
    dimensions = [{"Name": "EndpointName", "Value": endpoint}]
    return [
        {"MetricName": name, "Dimensions": dimensions, "Value": float(value), "Unit": "Count"} for name, value in values.items()
    ]


def _portions(values: dict[float, int]) -> list[dict[float, int]]:
    items = sorted(values.items())
    return [dict(items[start : start + _MOST_VALUES]) for start in range(0, len(items), _MOST_VALUES)]


def _rounded(value: float) -> float:
    """To three digits, so that a minute's latencies are few numbers."""
    return float(f"{value:.{_DIGITS}g}")
