"""What CloudWatch is told of topics, every minute: namespace AWS/SNS, dimension TopicName.

Source: SNS developer guide, "Monitoring Amazon SNS topics using CloudWatch". Differs: what a killed server had counted in its last
minute is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pilvi.metering.figures import Figures, by
from pilvi.services.sns.filters import values_of

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.services.sns.message import Message
    from pilvi.services.sns.topics import Topic

FIGURES: Final = Figures("sns", "AWS/SNS")
PUBLISHED: Final = "NumberOfMessagesPublished"
DELIVERED: Final = "NumberOfNotificationsDelivered"
FAILED: Final = "NumberOfNotificationsFailed"
FILTERED: Final = "NumberOfNotificationsFilteredOut"
REDRIVEN: Final = "NumberOfNotificationsRedrivenToDlq"
NOT_REDRIVEN: Final = "NumberOfNotificationsFailedToRedriveToDlq"


def count(cloud: Cloud, topic: Topic, name: str) -> None:
    """One of them."""
    FIGURES.add(cloud, topic.account, topic.region, by(TopicName=topic.name), name)


def published(cloud: Cloud, topic: Topic, size: int) -> None:
    count(cloud, topic, PUBLISHED)
    FIGURES.took(cloud, topic.account, topic.region, by(TopicName=topic.name), "PublishSize", size, "Bytes")


def filtered(cloud: Cloud, topic: Topic, message: Message, *, by_body: bool) -> None:
    count(cloud, topic, FILTERED)
    if by_body:
        count(cloud, topic, f"{FILTERED}-MessageBody")
        return
    count(cloud, topic, f"{FILTERED}-MessageAttributes")
    if not message.attributes:
        count(cloud, topic, f"{FILTERED}-NoMessageAttributes")
    elif values_of(message.attributes) is None:
        count(cloud, topic, f"{FILTERED}-InvalidAttributes")
