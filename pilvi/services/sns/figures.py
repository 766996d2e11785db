"""What CloudWatch is told of topics, every minute: namespace AWS/SNS, dimension TopicName.

Source: SNS developer guide, "Monitoring Amazon SNS topics using CloudWatch". Differs: what a killed server had counted in its last
minute is lost.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

from pilvi.services.sns.filters import values_of
from pilvi.services.sns.topics import Topic, as_sns

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.services.sns.message import Message

READ_S: Final = 10.0
PUBLISHED: Final = "NumberOfMessagesPublished"
DELIVERED: Final = "NumberOfNotificationsDelivered"
FAILED: Final = "NumberOfNotificationsFailed"
FILTERED: Final = "NumberOfNotificationsFilteredOut"
REDRIVEN: Final = "NumberOfNotificationsRedrivenToDlq"
NOT_REDRIVEN: Final = "NumberOfNotificationsFailedToRedriveToDlq"
_MEMORY: Final = "sns:figures"

Place = tuple[str, str, str]
"""Account, Region, topic."""


class Figures:
    """Counts of one topic since they were told last; on the event loop only."""

    __slots__ = ("counts", "largest", "smallest", "total")

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.total = self.smallest = self.largest = 0

    def add(self, name: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1

    def published(self, size: int) -> None:
        self.smallest = min(self.smallest, size) if PUBLISHED in self.counts else size
        self.largest = max(self.largest, size)
        self.total += size
        self.add(PUBLISHED)

    def filtered(self, *, by_body: bool, message: Message) -> None:
        self.add(FILTERED)
        if by_body:
            self.add(f"{FILTERED}-MessageBody")
            return
        self.add(f"{FILTERED}-MessageAttributes")
        if not message.attributes:
            self.add(f"{FILTERED}-NoMessageAttributes")
        elif values_of(message.attributes) is None:
            self.add(f"{FILTERED}-InvalidAttributes")


def of(cloud: Cloud, topic: Topic) -> Figures:
    known = _known(cloud)
    place = (topic.account, topic.region, topic.name)
    found = known.get(place)
    if found is None:
        found = known[place] = Figures()
    return found


def has_work(cloud: Cloud) -> bool:
    return bool(cloud.memory.get(_MEMORY))


def publish(cloud: Cloud) -> None:
    """What every topic has to tell; taken on the loop, told from this thread."""
    from pilvi.services.sns.usage import loop_of

    loop = loop_of(cloud)
    if loop is None:
        return
    done: Future[dict[Place, Figures]] = Future()

    def take() -> None:
        taken = dict(_known(cloud))
        _known(cloud).clear()
        done.set_result(taken)

    loop.call_soon_threadsafe(take)
    by_region: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for (account, region, name), figures in done.result(READ_S).items():
        by_region.setdefault((account, region), []).extend(_data(name, figures))
    for (account, region), data in by_region.items():
        ctx = as_sns(cloud, account, region)
        for start in range(0, len(data), 1000):
            ctx.call("cloudwatch", "PutMetricData", Namespace="AWS/SNS", MetricData=data[start : start + 1000])


def _data(topic: str, figures: Figures) -> list[dict[str, Any]]:
    dimensions = [{"Name": "TopicName", "Value": topic}]
    data: list[dict[str, Any]] = [
        {"MetricName": name, "Dimensions": dimensions, "Value": float(count), "Unit": "Count"}
        for name, count in figures.counts.items()
    ]
    if sends := figures.counts.get(PUBLISHED, 0):
        size = {"SampleCount": sends, "Sum": figures.total, "Minimum": figures.smallest, "Maximum": figures.largest}
        values = {name: float(value) for name, value in size.items()}
        data.append({"MetricName": "PublishSize", "Dimensions": dimensions, "Unit": "Bytes", "StatisticValues": values})
    return data


def _known(cloud: Cloud) -> dict[Place, Figures]:
    known: dict[Place, Figures] = cloud.memory.setdefault(_MEMORY, {})
    return known
