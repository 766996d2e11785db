"""The scrubber of one server: run each week on the product's clock, by `pilvi scrub`, and after a start with mirrors."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from pilvi.schedules import Periodic
from pilvi.storage.records import Put, Row, Table
from pilvi.storage.scrub import Report, fill_mirrors, owners_of, scrub

if TYPE_CHECKING:
    from pilvi.app.cloud import Cloud
    from pilvi.core.service import Cloud as CloudPort

log = logging.getLogger("pilvi.storage")

PERIOD_S = 7 * 86_400.0
LAST = Table("", "", "storage", "Scrub")


class Scrubbing:
    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._filling: threading.Thread | None = None

    def run(self) -> dict[str, Any]:
        """Everything once; one run at a time. For threads."""
        with self._lock:
            cloud = self._cloud
            begun = cloud.clock.real_s()
            report = scrub(cloud.store, cloud.blobs, cloud.keyring, self._closing.is_set)
            self._name_owners(report)
            facts = report.facts() | {"took_s": round(cloud.clock.real_s() - begun, 2), "out": dict(cloud.stores.lost)}
            facts["time"] = f"{cloud.clock.now():%Y-%m-%dT%H:%M:%SZ}"
            if not self._closing.is_set():
                cloud.store.write(Put(LAST, "last", facts))
            if report.damaged:
                log.error("scrub: %d damaged, %d mended, %d lost", report.damaged, report.mended, report.lost)
            return facts

    def last(self) -> dict[str, Any] | None:
        """What the latest run found."""
        row = self._cloud.store.get(LAST, "last")
        return None if row is None else row.value

    def status(self) -> dict[str, Any]:
        """For whoever asks how the copies are."""
        stores, last = self._cloud.stores, self.last()
        told: dict[str, Any] = {}
        if self._cloud.config.mirrors:
            told["mirrors"] = [stores.lost.get(str(folder), "good") for folder in self._cloud.config.mirror_dirs]
        if last is not None:
            told["scrub"] = {name: last[name] for name in ("time", "damaged", "mended", "lost")}
        return told

    def start(self) -> None:
        """Bring mirrors that were added, or came back, up to date; beside everything else."""
        if self._cloud.stores.mirror is not None:
            self._filling = threading.Thread(target=self._fill, name="mirror-fill", daemon=True)
            self._filling.start()

    def close(self) -> None:
        self._closing.set()
        if self._filling is not None:
            self._filling.join()
        with self._lock:
            pass

    def tasks(self) -> dict[str, Periodic]:
        tasks = {"storage/scrub": Periodic("scrub", PERIOD_S, _run)}
        if self._cloud.stores.deferred is not None:
            tasks["storage/deferred"] = Periodic("deferred", 60.0, _remove_due)
        return tasks

    def _fill(self) -> None:
        assert self._cloud.stores.mirror is not None
        try:
            if filled := fill_mirrors(self._cloud.store, self._cloud.stores.mirror, self._closing.is_set):
                log.warning("mirror: %d blobs were missing somewhere; they are whole again", filled)
        except Exception:  # the server stands; the next start or scrub tries again
            log.exception("mirror: filling up ended early")

    def _name_owners(self, report: Report) -> None:
        """Say of what is damaged which object it belongs to."""
        names = {word for line in report.names for word in line.replace(":", " ").split()}
        if not report.names:
            return
        owners = owners_of(self._rows(), names)
        report.names = [
            line + "".join(f" ({owners[word]})" for word in line.replace(":", " ").split() if word in owners)
            for line in report.names
        ]

    def _rows(self) -> Iterator[tuple[Table, Row]]:
        store = self._cloud.store
        for table in store.tables(service="s3"):
            after = ""
            while rows := store.scan(table, after=after):
                yield from ((table, row) for row in rows)
                after = rows[-1].id


def _run(cloud: CloudPort) -> None:
    cast("Cloud", cloud).scrubbing.run()


def _remove_due(cloud: CloudPort) -> None:
    deferred = cast("Cloud", cloud).stores.deferred
    assert deferred is not None
    deferred.remove_due()
