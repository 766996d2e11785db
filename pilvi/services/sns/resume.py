"""What goes on after a restart: replays of archives. Deliveries are the events room's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilvi.services.sns import archive
from pilvi.services.sns.topics import SERVICE, topic_arn

if TYPE_CHECKING:
    from pilvi.core.service import Cloud


async def resume(cloud: Cloud) -> None:
    """Take up what an earlier server had begun."""
    for table in cloud.store.tables(service=SERVICE, noun="Subscription"):
        after = ""
        while rows := cloud.store.scan(table, after=after):
            for row in rows:
                if "replay" in row.value:
                    name, _, uid = row.id.partition(":")
                    archive.start(cloud, f"{topic_arn(table.account, table.region, name)}:{uid}")
            after = rows[-1].id
