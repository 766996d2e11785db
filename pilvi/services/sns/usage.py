"""What a topic is used for: requests and deliveries on the bill of the topic's owner.

Source: Amazon SNS pricing: each 64 KiB of what is published is a request; deliveries to SQS and Lambda cost nothing. Differs: what
AWS gives free each month is not taken off; text messages have no price here, as it depends on where they go.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from pilvi.core.service import Context
from pilvi.metering.counted import Counter, Use

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.services.sns.topics import Topic

COUNTED: Final = Counter("sns")
REQUEST_BYTES: Final = 64 << 10
DELIVERIES: Final = {
    "http": "DeliveryAttempts-HTTP",
    "https": "DeliveryAttempts-HTTP",
    "email": "DeliveryAttempts-SMTP",
    "email-json": "DeliveryAttempts-SMTP",
    "sms": "DeliveryAttempts-SMS",
    "sqs": "DeliveryAttempts-SQS",
    "lambda": "DeliveryAttempts-LAMBDA",
}
"""Of the endpoints that are not mobile applications: those count by their platform."""


def count(cloud: Cloud, account: str, region: str, usage: str, unit: str, many: int) -> None:
    """Something was used."""
    COUNTED.add(cloud, Use("AmazonSNS", usage, "", unit), account, region, many)


def count_publish(ctx: Context, topic: Topic, sizes: Sequence[int]) -> None:
    usage = "F-Request-Tier1" if topic.is_fifo else "Requests-Tier1"
    requests = sum(max(1, -(-size // REQUEST_BYTES)) for size in sizes)
    count(ctx.cloud, topic.account, topic.region, usage, "Requests", requests)


def count_delivery(cloud: Cloud, topic: Topic, usage: str) -> None:
    count(cloud, topic.account, topic.region, "F-DA-SQS" if topic.is_fifo else usage, "Notifications", 1)
