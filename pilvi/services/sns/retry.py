"""What comes of a delivery that failed: another attempt by the retry policy of its kind, or the end of it, in the dead-letter queue of
the subscription where it has one.

What cannot pass by itself (denied, gone, refused by the endpoint with 4xx) is not tried again. A dead letter is sent as SNS for the
topic; a message whose dead-letter queue does not take it either is kept among the dead letters of the events room.

Source: SNS developer guide, "Amazon SNS message delivery retries" and "Amazon SNS dead-letter queues".
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pilvi.events.targets import is_lasting, text_of
from pilvi.services.sns import figures, status_log
from pilvi.services.sns.deliver import Delivery, Refused, delivery_of, send_to_queue
from pilvi.services.sns.delivery_policy import MANAGED, UNMANAGED, Phases
from pilvi.services.sns.message import NOTIFICATION

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.events import Entry

log = logging.getLogger("pilvi.sns")


async def failed(cloud: Cloud, entry: Entry, error: Exception) -> float | None:
    """Seconds until the next attempt, or None where there is none."""
    found = delivery_of(cloud, entry.fact)
    if found is None:
        return None
    lasts = error.is_lasting if isinstance(error, Refused) else is_lasting(error)
    wait_s = None if lasts else phases_of(found).delay_s(entry.tries)
    if wait_s is not None:
        return wait_s
    reason = text_of(error)
    if found.message.kind != NOTIFICATION:
        log.info("sns: %s was not reached for a confirmation: %s", found.endpoint, reason)
        return None
    numbers = figures.of(cloud, found.topic)
    numbers.add(figures.FAILED)
    await status_log.failed(found.ctx, found.topic, found.protocol, found.endpoint, found.message, error, entry.tries + 1)
    if found.subscription is None or not found.subscription.dead_letters:
        log.warning("sns: %s misses message %s after %d attempts: %s", found.endpoint, found.message.id, entry.tries + 1, reason)
        return None
    try:
        await send_to_queue(found, found.subscription.dead_letters)
    except Exception:
        numbers.add(figures.NOT_REDRIVEN)
        raise
    numbers.add(figures.REDRIVEN)
    return None


def phases_of(found: Delivery) -> Phases:
    if found.protocol in ("http", "https"):
        return found.subscription.http.phases if found.subscription is not None else UNMANAGED
    return MANAGED if found.protocol in ("sqs", "lambda") else UNMANAGED
