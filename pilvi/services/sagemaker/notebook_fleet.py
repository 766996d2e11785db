"""All notebook instances of a cloud that run, each driven by one thread. Made when an operation first asks about instances.

    Pending --(Jupyter answers)--> InService --(its end)--> Failed, or Stopped when the record says Stopping
       \\--(it cannot start)--> Failed

The record is the truth and is written last: when it says Stopped, nothing runs and the volume is sealed. Making the fleet is
also what follows a restart: what was to run is started again, what was half done is done.
"""

from __future__ import annotations

import hmac
import logging
import shutil
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pilvi.compute import Exit
from pilvi.core.errors import Conflict, PilviError, Unavailable
from pilvi.core.service import Context
from pilvi.services.sagemaker import notebook_instance_lifecycle_config as lifecycle
from pilvi.services.sagemaker.notebook_run import Run, context_for, identity_of
from pilvi.services.sagemaker.notebook_ticket import Place, Tickets
from pilvi.services.sagemaker.notebook_volume import Volume, claiming, folder_of, releasing
from pilvi.services.sagemaker.tag import untagging

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.storage.records import Rows

log = logging.getLogger("pilvi.sagemaker")

NOUN = "NotebookInstance"
STATUS = f"{NOUN}Status"
_KEY = "sagemaker-notebooks"
_CLOSE_S = 10.0
_REASON_CHARACTERS = 1024

_making = threading.Lock()


class Fleet:
    def __init__(self, cloud: Cloud) -> None:
        self.tickets = Tickets(cloud.clock, cloud.ids)
        self.is_closed = False
        self._cloud = cloud
        self._runs: dict[Place, Run] = {}
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()

    # -- for operations ---------------------------------------------------------------------------------------------

    def start(self, place: Place) -> None:
        """Run an instance whose record says Pending."""
        self._begin(self._drive, place)

    def stop(self, place: Place) -> None:
        """End an instance whose record says Stopping."""
        if (run := self._runs.get(place)) is not None:
            run.stop()

    def remove(self, place: Place) -> None:
        """Forget an instance whose record says Deleting, and its volume."""
        self._begin(self._forget, place)

    # -- for the door -----------------------------------------------------------------------------------------------

    def entrance(self, place: Place, session_s: int) -> str | None:
        """A URL of Jupyter's own; None when the instance does not run."""
        run = self._runs.get(place)
        return run.entrance(self._cloud.clock.time_s() + session_s) if run is not None and run.address else None

    def credentials(self, id: str, secret: str) -> dict[str, str] | None:
        """Fresh keys of a run's role, as the container credential contract has them; None for whoever is no run of ours.

        Denied when the role has gone or no longer trusts SageMaker.
        """
        run = next((run for run in list(self._runs.values()) if run.id == id), None)
        if run is None or not hmac.compare_digest(run.secret, secret):
            return None
        identity = identity_of(run.ctx, run.record["RoleArn"])
        assert identity.expires is not None
        return {
            "AccessKeyId": identity.access_key_id,
            "SecretAccessKey": identity.secret,
            "Token": identity.session_token,
            "Expiration": f"{identity.expires:%Y-%m-%dT%H:%M:%SZ}",
            "RoleArn": run.record["RoleArn"],
        }

    # -- for the server ---------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """Go on where an earlier server stopped."""
        kept: set[str] = set()
        for table in self._cloud.store.tables(service="sagemaker", noun=NOUN):
            rows = self._cloud.rows(*table)
            for record in rows.all():
                kept.add(record["_id"])
                self._resume(rows, record, Place(table.account, table.region, record[f"{NOUN}Name"].lower()))
        folder = folder_of(self._cloud)
        for left in list(folder.iterdir()) if folder.is_dir() else []:
            if left.name not in kept:
                shutil.rmtree(left, ignore_errors=True)

    def close(self) -> None:
        """End every process. Records stay as they are: the next server starts the instances again."""
        with self._lock:
            self.is_closed = True
            threads = list(self._threads)
        for run in list(self._runs.values()):
            run.kill()
        deadline = self._cloud.clock.time_s() + _CLOSE_S
        for thread in threads:
            thread.join(max(0.0, deadline - self._cloud.clock.time_s()))

    # -- private ----------------------------------------------------------------------------------------------------

    def _resume(self, rows: Rows, record: dict[str, Any], place: Place) -> None:
        status = record[STATUS]
        if status in ("Pending", "InService"):
            rows.update(place.name, lambda value: value | {STATUS: "Pending", "Url": None})
            self.start(place)
        elif status == "Stopping":
            self._begin(self._put_away, place)
        elif status == "Deleting":
            self.remove(place)
        elif record["_archive"] is not None:
            Volume(self._cloud, record["_id"]).drop_files()

    def _begin(self, work: Callable[[Place], None], place: Place) -> None:
        def carried_out() -> None:
            try:
                work(place)
            except Exception:  # the record tells where it stands, and other instances must go on
                if not self.is_closed:
                    log.exception("the notebook instance %s was lost by its thread", place.name)
            finally:
                with self._lock:
                    self._threads.discard(threading.current_thread())

        thread = threading.Thread(target=carried_out, name="pilvi-notebook", daemon=True)
        with self._lock:
            if self.is_closed:
                raise Unavailable("The server is stopping.")
            self._threads.add(thread)
        thread.start()

    def _drive(self, place: Place) -> None:
        """One run, from Pending to Stopped or Failed."""
        rows = self._rows(place)
        record = rows.get(place.name)
        volume = Volume(self._cloud, record["_id"])
        run = Run(self._context(place, record), record, volume)
        self._runs[place] = run
        try:
            reason = self._lived(place, run, volume)
        except PilviError as error:
            reason = str(error)
        except Exception:  # the instance must come to an end, and honestly
            log.exception("the notebook instance %s broke", place.name)
            reason = "InternalServerError: We encountered an internal error. Please try again."
        run.end()
        del self._runs[place]
        if not self.is_closed:
            self._put_away(place, reason)

    def _lived(self, place: Place, run: Run, volume: Volume) -> str:
        """Run it; gives why it ended."""
        rows, archive = self._rows(place), run.record["_archive"]
        volume.open(archive)
        if archive is not None:
            row = rows.row(place.name)
            assert row is not None
            self._cloud.store.write(rows.revision(place.name, row.value | {"_archive": None}, row.version), *releasing(archive))
            volume.drop_archive(archive)
        if self.is_closed:
            return ""
        run.prepare()
        self._run_scripts(place, run)
        run.start()
        rows.update(place.name, lambda value: value | self._changed("InService", Url=run.address, FailureReason=None))
        return _why(run.watch())

    def _run_scripts(self, place: Place, run: Run) -> None:
        """What the lifecycle configuration wants: OnCreate until it has succeeded once, OnStart each time."""
        name = run.record.get(f"{lifecycle.NOUN}Name")
        if name is None:
            return
        scripts = self._cloud.rows(place.account, place.region, "sagemaker", lifecycle.NOUN).find(name.lower())
        for hook in lifecycle.HOOKS:
            script = lifecycle.script_of(scripts, hook)
            if script and not (hook == "OnCreate" and run.record.get("_is_made")):
                run.perform(hook, script)
            if hook == "OnCreate":
                self._rows(place).update(place.name, lambda value: value | {"_is_made": True})

    def _put_away(self, place: Place, reason: str = "") -> None:
        """Seal the volume, and tell the end: Stopped when it was asked for, else Failed."""
        rows = self._rows(place)
        row = rows.row(place.name)
        if row is None:
            return
        volume = Volume(self._cloud, row.value["_id"])
        archive = row.value["_archive"] or volume.pack()
        claims = claiming(archive) if row.value["_archive"] is None else ()
        while row is not None:
            is_asked_for = row.value[STATUS] == "Stopping"
            end = self._changed("Stopped") if is_asked_for else self._changed("Failed", FailureReason=reason[:_REASON_CHARACTERS])
            value = row.value | end | {"Url": None, "_archive": archive}
            try:
                self._cloud.store.write(rows.revision(place.name, value, row.version), *claims)
            except Conflict:
                row = rows.row(place.name)  # a stop came between
                continue
            break
        if archive is not None:
            volume.drop_files()

    def _forget(self, place: Place) -> None:
        rows = self._rows(place)
        record = rows.get(place.name)
        volume = Volume(self._cloud, record["_id"])
        volume.drop_files()
        ctx = self._context(place, record)
        self._cloud.store.write(rows.deletion(place.name), *untagging(ctx, record[f"{NOUN}Arn"]), *releasing(record["_archive"]))
        volume.drop_archive(record["_archive"])

    def _rows(self, place: Place) -> Rows:
        return self._cloud.rows(place.account, place.region, "sagemaker", NOUN)

    def _context(self, place: Place, record: dict[str, Any]) -> Context:
        return context_for(self._cloud, place.account, place.region, record[f"{NOUN}Arn"])

    def _changed(self, status: str, **members: Any) -> dict[str, Any]:
        return {STATUS: status, "LastModifiedTime": self._cloud.clock.now(), **members}


def fleet_of(cloud: Cloud) -> Fleet:
    """The fleet of a cloud. The first to ask makes it, and what ran before a restart runs again. For threads."""
    found = cloud.memory.get(_KEY)
    if isinstance(found, Fleet) and not found.is_closed:
        return found
    with _making:
        found = cloud.memory.get(_KEY)
        if isinstance(found, Fleet) and not found.is_closed:
            return found
        fleet = Fleet(cloud)
        fleet.recover()
        cloud.memory[_KEY] = fleet
        return fleet


def close_fleet(cloud: Cloud) -> None:
    """The server stops."""
    with _making:
        found = cloud.memory.get(_KEY)
    if isinstance(found, Fleet):
        found.close()


def _why(how: Exit) -> str:
    if how.code == 0:
        return "InternalServerError: Jupyter was shut down."
    return f"InternalServerError: Jupyter ended with exit status {how.code}."
