"""After a start: rotations that an earlier server left half done go on."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pilvi.services.secretsmanager.rotation import run
from pilvi.storage.records import Rows

if TYPE_CHECKING:
    from pilvi.core.service import Cloud


async def resume(cloud: Cloud) -> None:
    for table in cloud.store.tables(service="secretsmanager", noun="Secret"):
        for secret in Rows(cloud.store, table).all():
            if "_rotating" in secret:
                threading.Thread(target=run, args=(cloud, secret["ARN"]), name="rotation", daemon=True).start()
