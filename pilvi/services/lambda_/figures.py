"""What CloudWatch is told of functions, every minute: namespace AWS/Lambda.

Each figure stands three times: by FunctionName, by FunctionName and Resource (`name:alias`, `name:version`) where a call named one, and
for all functions of the account together.

Source: developer guide, "Types of metrics for Lambda functions". Differs: what a killed server had counted in its last minute is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from pilvi.metering.figures import Dimensions, Figures, by

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.events.poller import Counts
    from pilvi.services.lambda_.names import FunctionRef

FIGURES: Final = Figures("lambda", "AWS/Lambda")


def add(cloud: Cloud, ref: FunctionRef, name: str, many: float = 1.0) -> None:
    for dimensions in _dimensions(ref):
        FIGURES.add(cloud, ref.account, ref.region, dimensions, name, many)


def took(cloud: Cloud, ref: FunctionRef, name: str, milliseconds: float) -> None:
    for dimensions in _dimensions(ref):
        FIGURES.took(cloud, ref.account, ref.region, dimensions, name, milliseconds)


def ran(cloud: Cloud, ref: FunctionRef, duration_ms: float, *, failed: bool) -> None:
    """One invocation came to its end."""
    for dimensions in _dimensions(ref):
        FIGURES.add(cloud, ref.account, ref.region, dimensions, "Invocations")
        FIGURES.add(cloud, ref.account, ref.region, dimensions, "Errors", failed)
        FIGURES.add(cloud, ref.account, ref.region, dimensions, "Throttles", 0.0)
        FIGURES.took(cloud, ref.account, ref.region, dimensions, "Duration", duration_ms)


def running(cloud: Cloud, account: str, region: str, function: str, many: int) -> None:
    """So many are under way."""
    FIGURES.most(cloud, account, region, by(FunctionName=function), "ConcurrentExecutions", many)


def of_mapping(cloud: Cloud, account: str, region: str, uuid: str, counts: Counts) -> None:
    """Records of an event source mapping. Source: developer guide, "Event source mapping metrics"."""
    values = {
        "PolledEventCount": counts.polled,
        "FilteredOutEventCount": counts.filtered,
        "InvokedEventCount": counts.handled + counts.failed,
        "FailedInvokeEventCount": counts.failed,
        "DeletedEventCount": counts.removed,
    }
    for name, many in values.items():
        FIGURES.add(cloud, account, region, by(EventSourceMappingUUID=uuid), name, many)


def _dimensions(ref: FunctionRef) -> Iterator[Dimensions]:
    yield ()
    yield by(FunctionName=ref.name)
    if ref.qualifier:
        yield by(FunctionName=ref.name, Resource=f"{ref.name}:{ref.qualifier}")
