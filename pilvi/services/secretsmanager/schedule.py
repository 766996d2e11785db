"""What Secrets Manager does by the clock: secrets whose window is over go, and those that are due rotate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from pilvi.core.errors import Conflict, NotFound
from pilvi.schedules import Periodic
from pilvi.services.secretsmanager.replication import region_of
from pilvi.services.secretsmanager.rotation import begin
from pilvi.services.secretsmanager.secrets import Secret
from pilvi.storage.records import Delete, Rows, Table

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

HOUR_S = 3600.0


def look_after_secrets(cloud: Cloud) -> None:
    """Everything that fell due for any secret."""
    now = cloud.clock.now()
    for table, version, secret in _all(cloud):
        if "DeletedDate" in secret:
            if secret["DeletedDate"] <= now:
                with suppress(Conflict, NotFound):  # somebody was quicker
                    cloud.store.write(Delete(table, secret["Name"], version))
            continue
        is_due = "_rotating" in secret or secret.get("NextRotationDate", now) < now
        if is_due and secret.get("RotationEnabled") and secret["PrimaryRegion"] == region_of(secret):
            begin(cloud, secret)


def _all(cloud: Cloud) -> Iterator[tuple[Table, int, Secret]]:
    for table in cloud.store.tables(service="secretsmanager", noun="Secret"):
        after = ""
        while rows := Rows(cloud.store, table).scan(after=after):
            for row in rows:
                yield table, row.version, row.value
            after = rows[-1].id


TASKS = (Periodic("secrets", HOUR_S, look_after_secrets),)
