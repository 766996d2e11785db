"""What CloudWatch is told of queues, every minute: namespace AWS/SQS, dimension QueueName.

Source: SQS developer guide, "Available CloudWatch metrics for Amazon SQS". Differs: a queue that nobody used since the server
started, or for six hours, tells nothing; what a killed server had counted in its last minute is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

from pilvi.core.principal import Principal
from pilvi.core.service import Context

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.services.sqs.live import Live

PRINCIPAL: Final = "sqs.amazonaws.com"
ACTIVE_MS: Final = 6 * 3_600_000
READ_S: Final = 10.0

Place = tuple[str, str]
"""Account and Region."""


class Figures:
    """Counts of one queue since they were told last."""

    __slots__ = ("deletes", "empty", "largest", "receives", "sends", "smallest", "total", "used")

    def __init__(self) -> None:
        self.used = 0
        """When there was something to tell last."""
        self.clear()

    def clear(self) -> None:
        self.sends = self.receives = self.deletes = self.empty = 0
        self.total = self.smallest = self.largest = 0

    def sent(self, size: int) -> None:
        self.smallest = min(self.smallest, size) if self.sends else size
        self.largest = max(self.largest, size)
        self.total += size
        self.sends += 1


def publish(cloud: Cloud) -> None:
    """What every queue at work has to tell; read on the loop, told from this thread."""
    from pilvi.services.sqs.engine import engine_of

    engine = engine_of(cloud)
    if engine.loop is None:
        return
    done: Future[dict[Place, list[dict[str, Any]]]] = Future()
    engine.loop.call_soon_threadsafe(lambda: done.set_result(_gathered(list(engine.lives.values()), engine.now())))
    for (account, region), data in done.result(READ_S).items():
        ctx = own_context(cloud, account, region)
        for start in range(0, len(data), 1000):
            ctx.call("cloudwatch", "PutMetricData", Namespace="AWS/SQS", MetricData=data[start : start + 1000])


def _gathered(lives: Sequence[Live], now: int) -> dict[Place, list[dict[str, Any]]]:
    places: dict[Place, list[dict[str, Any]]] = {}
    for live in lives:
        figures = live.figures
        if figures.sends or figures.receives or figures.deletes or figures.empty or live.total:
            figures.used = now
        if now - figures.used < ACTIVE_MS:
            places.setdefault((live.queue.account, live.queue.region), []).extend(_data(live, now))
            figures.clear()
    return places


def has_work(cloud: Cloud) -> bool:
    """Whether any queue was used since the server started."""
    return "sqs:engine" in cloud.memory


def own_context(cloud: Cloud, account: str, region: str) -> Context:
    """SQS itself, in a queue's account."""
    return Context(
        cloud, principal=Principal("service", account, "", PRINCIPAL, PRINCIPAL), account=account, region=region, service="sqs"
    )


def _data(live: Live, now: int) -> list[dict[str, Any]]:
    figures = live.figures
    oldest = live.oldest()
    values = {
        "NumberOfMessagesSent": (figures.sends, "Count"),
        "NumberOfMessagesReceived": (figures.receives, "Count"),
        "NumberOfMessagesDeleted": (figures.deletes, "Count"),
        "NumberOfEmptyReceives": (figures.empty, "Count"),
        "ApproximateNumberOfMessagesVisible": (live.visible, "Count"),
        "ApproximateNumberOfMessagesNotVisible": (len(live.flying), "Count"),
        "ApproximateNumberOfMessagesDelayed": (len(live.delayed), "Count"),
        "ApproximateAgeOfOldestMessage": ((now - oldest.sent) // 1000 if oldest is not None else 0, "Seconds"),
    }
    dimensions = [{"Name": "QueueName", "Value": live.queue.name}]
    data: list[dict[str, Any]] = [
        {"MetricName": name, "Dimensions": dimensions, "Value": float(value), "Unit": unit}
        for name, (value, unit) in values.items()
    ]
    if figures.sends:
        size = {"SampleCount": figures.sends, "Sum": figures.total, "Minimum": figures.smallest, "Maximum": figures.largest}
        data.append(
            {
                "MetricName": "SentMessageSize",
                "Dimensions": dimensions,
                "Unit": "Bytes",
                "StatisticValues": {name: float(value) for name, value in size.items()},
            }
        )
    return data
