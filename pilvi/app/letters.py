"""Dead letters of the events room go when their time is over."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from pilvi.core.service import Cloud as AnyCloud
from pilvi.events.letters import DAY_S
from pilvi.schedules import Periodic

if TYPE_CHECKING:
    from pilvi.app.cloud import Cloud

log = logging.getLogger("pilvi.events")

PERIOD_S: Final = 3600.0


def tasks(cloud: Cloud) -> dict[str, Periodic]:
    def expire(_: AnyCloud) -> None:
        loop = cloud.dispatcher.loop
        old = cloud.letters.expired(cloud.config.dead_letter_days * DAY_S)
        if old and loop is not None:
            asyncio.run_coroutine_threadsafe(cloud.letters.delete(old), loop).result()
            log.warning("events: %d dead letters were older than %d days and are gone", len(old), cloud.config.dead_letter_days)

    def has_work(_: AnyCloud) -> bool:
        return bool(cloud.delivery.log.dead_consumers())

    return {"events/dead-letters": Periodic("dead-letters", PERIOD_S, expire, has_work)}
