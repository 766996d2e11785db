"""What goes on after a restart: move tasks, and the sweeping of what was purged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilvi.services.sqs.engine import TRASH, engine_of
from pilvi.services.sqs.move_tasks import go_on

if TYPE_CHECKING:
    from pilvi.core.service import Cloud


async def resume(cloud: Cloud) -> None:
    """Take up what an earlier server had begun."""
    engine = engine_of(cloud)
    after = ""
    while rows := cloud.store.scan(TRASH, after=after):
        for row in rows:
            engine.sweep_soon(row.id)
        after = rows[-1].id
    go_on(cloud)
