"""What CloudWatch is told of rules, every minute: namespace AWS/Events; and how much came in.

Source: EventBridge User Guide, "Monitoring Amazon EventBridge". Differs: what a killed server had counted in its last minute is lost.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, Final

from pilvi.services.events.buses import DEFAULT, Place, Rule
from pilvi.services.events.sealing import as_events

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

log = logging.getLogger("pilvi.events")

NAMESPACE: Final = "AWS/Events"
_MEMORY: Final = "events:figures"

Name = tuple[Place, str, str]
"""Where, the rule ('' for the whole account and Region), the metric."""


class Figures:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counts: dict[Name, float] = {}

    def add(self, name: Name, many: float) -> None:
        with self.lock:
            self.counts[name] = self.counts.get(name, 0) + many

    def taken(self) -> dict[Name, float]:
        with self.lock:
            counts, self.counts = self.counts, {}
        return counts


def count(cloud: Cloud, rule: Rule, metric: str, many: float = 1) -> None:
    _figures(cloud).add((rule.place, rule.name, metric), many)


def count_here(cloud: Cloud, account: str, region: str, metric: str, many: float = 1) -> None:
    """Of an account in a Region."""
    _figures(cloud).add((Place(account, region, ""), "", metric), many)


def publish(cloud: Cloud) -> None:
    """Everything counted since the last time."""
    places: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for (place, rule, metric), value in _figures(cloud).taken().items():
        data = places.setdefault((place.account, place.region), [])
        data += [
            {"MetricName": metric, "Dimensions": dimensions, "Value": float(value), "Unit": "Count"}
            for dimensions in _dimensions(place, rule)
        ]
    for (account, region), data in places.items():
        ctx = as_events(cloud, account, region, "")
        for start in range(0, len(data), 1000):
            ctx.call("cloudwatch", "PutMetricData", Namespace=NAMESPACE, MetricData=data[start : start + 1000])


def has_work(cloud: Cloud) -> bool:
    return _MEMORY in cloud.memory and bool(_figures(cloud).counts)


def _dimensions(place: Place, rule: str) -> list[list[dict[str, str]]]:
    """The sets of dimensions that a figure is told under."""
    if not rule:
        return [[]]
    named = {"Name": "RuleName", "Value": rule}
    if place.name == DEFAULT:
        return [[named]]
    return [[{"Name": "EventBusName", "Value": place.name}, named]]


def _figures(cloud: Cloud) -> Figures:
    found: Figures = cloud.memory.setdefault(_MEMORY, Figures())
    return found
