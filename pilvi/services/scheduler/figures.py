"""What CloudWatch is told of schedules, every minute: namespace AWS/Scheduler, with and without the dimension ScheduleGroup.

Source: EventBridge Scheduler User Guide, "Monitoring Amazon EventBridge Scheduler with Amazon CloudWatch". Differs: what a killed
server had counted in its last minute is lost.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from pilvi.core.principal import Principal
from pilvi.core.service import Context
from pilvi.services.scheduler.access import PRINCIPAL

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

_MEMORY: Final = "scheduler:figures"
_LOCK: Final = threading.Lock()

Place = tuple[str, str]
"""Account and Region."""
Counts = dict[Place, dict[tuple[str, str], int]]
"""Of each place: group and metric."""


def count(cloud: Cloud, account: str, region: str, group: str, name: str) -> None:
    """One of them. From any thread."""
    with _LOCK:
        counts: Counts = cloud.memory.setdefault(_MEMORY, {})
        place = counts.setdefault((account, region), {})
        place[group, name] = place.get((group, name), 0) + 1


def has_work(cloud: Cloud) -> bool:
    return bool(cloud.memory.get(_MEMORY))


def publish(cloud: Cloud) -> None:
    """Tell what was counted since the last time."""
    with _LOCK:
        counts: Counts = cloud.memory.pop(_MEMORY, {})
    for (account, region), found in counts.items():
        principal = Principal("service", account, "", PRINCIPAL, PRINCIPAL)
        ctx = Context(cloud, principal=principal, account=account, region=region, service="scheduler")
        data = list(_data(found))
        for start in range(0, len(data), 1000):
            ctx.call("cloudwatch", "PutMetricData", Namespace="AWS/Scheduler", MetricData=data[start : start + 1000])


def _data(found: dict[tuple[str, str], int]) -> Iterator[dict[str, Any]]:
    totals: dict[str, int] = {}
    for (group, name), many in found.items():
        totals[name] = totals.get(name, 0) + many
        yield {
            "MetricName": name,
            "Dimensions": [{"Name": "ScheduleGroup", "Value": group}],
            "Value": float(many),
            "Unit": "Count",
        }
    for name, many in totals.items():
        yield {"MetricName": name, "Value": float(many), "Unit": "Count"}
