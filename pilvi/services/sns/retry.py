"""What comes of a delivery that failed: another attempt by the retry policy of its kind, or the end of it, in the dead-letter queue of
the subscription where it has one.

What cannot pass by itself (denied, gone, refused by the endpoint with 4xx) is not tried again. A dead letter is sent as SNS for the
topic; a message whose dead-letter queue does not take it either is kept among the dead letters of the events room.

Source: SNS developer guide, "Amazon SNS message delivery retries" and "Amazon SNS dead-letter queues".
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from pilvi.core.errors import ServiceError
from pilvi.events.targets import is_lasting, text_of
from pilvi.services.sns import figures, status_log
from pilvi.services.sns.deliver import Delivery, Refused, delivery_of, send_to_queue
from pilvi.services.sns.delivery_policy import MANAGED, UNMANAGED, Phases
from pilvi.services.sns.message import NOTIFICATION

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.events import Entry

log = logging.getLogger("pilvi.sns")

AGAIN_S: Final = 20.0
"""Until the next attempt, where the dead-letter queue could not be reached."""
_LASTING: Final = frozenset({"EndpointDisabledException", "PlatformApplicationDisabledException", "OptedOutException"})


async def failed(cloud: Cloud, entry: Entry, error: Exception) -> float | None:
    """Seconds until the next attempt, or None where there is none."""
    found = delivery_of(cloud, entry.fact)
    if found is None:
        return None
    lasts = _lasts(error)
    wait_s = None if lasts else phases_of(found).delay_s(entry.tries)
    if wait_s is not None:
        return wait_s
    if found.message.kind != NOTIFICATION:
        log.info("sns: %s was not reached for a confirmation: %s", found.endpoint, text_of(error))
        return None
    return await _given_up(found, error, entry.tries + 1)


async def _given_up(found: Delivery, error: Exception, attempts: int) -> float | None:
    """No further attempt: into the dead-letter queue, where there is one."""
    dead_letters = found.subscription.dead_letters if found.subscription is not None else ""
    problem: Exception | None = None
    try:
        if dead_letters:
            await send_to_queue(found, dead_letters)
    except Exception as again:  # noqa: BLE001 - raised below, once the failure is told
        if not is_lasting(again):
            return AGAIN_S
        problem = again
    figures.count(found.cloud, found.topic, figures.FAILED)
    feedback = status_log.of_topic(found.topic, found.protocol)
    await status_log.failed(found.ctx, feedback, found.endpoint, found.message, error, attempts)
    if problem is not None:
        figures.count(found.cloud, found.topic, figures.NOT_REDRIVEN)
        raise problem
    if dead_letters:
        figures.count(found.cloud, found.topic, figures.REDRIVEN)
    else:
        log.warning("sns: %s misses message %s after %d attempts: %s", found.endpoint, found.message.id, attempts, text_of(error))
    return None


def _lasts(error: Exception) -> bool:
    if isinstance(error, Refused):
        return error.is_lasting
    return is_lasting(error) or (isinstance(error, ServiceError) and error.code in _LASTING)


def phases_of(found: Delivery) -> Phases:
    if found.protocol in ("http", "https"):
        return found.subscription.http.phases if found.subscription is not None else UNMANAGED
    return MANAGED if found.protocol in ("sqs", "lambda") else UNMANAGED
