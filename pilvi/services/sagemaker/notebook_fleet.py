"""All notebook instances of a cloud that run, each driven by one thread. Made when an operation first asks about instances.

    Pending --(Jupyter answers)--> InService --(its end)--> Failed, or Stopped when the record says Stopping
       \\--(it cannot start)--> Failed

The record is the truth and is written last: when it says Stopped, nothing runs and the volume is sealed. Making the fleet is
also what follows a restart: what was to run is started again, what was half done is done.
"""

from __future__ import annotations

import logging
import shutil
import threading
from typing import TYPE_CHECKING, Any

from pilvi.compute import Exit
from pilvi.core.errors import Conflict, PilviError
from pilvi.core.service import Context
from pilvi.services.sagemaker import notebook_instance_lifecycle_config as lifecycle
from pilvi.services.sagemaker import state_note
from pilvi.services.sagemaker.metered import NOTEBOOK_USAGE, beat, begins, ends
from pilvi.services.sagemaker.notebook_git import Repository, repositories_of
from pilvi.services.sagemaker.notebook_run import Run, context_for
from pilvi.services.sagemaker.notebook_runs import runs_of
from pilvi.services.sagemaker.notebook_seat import Seat
from pilvi.services.sagemaker.notebook_ticket import Place
from pilvi.services.sagemaker.notebook_volume import Volume, claiming, folder_of, releasing
from pilvi.services.sagemaker.tag import untagging
from pilvi.services.sagemaker.volume_key import open_key, retire_key

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.storage.records import Change, Rows

log = logging.getLogger("pilvi.sagemaker")

NOUN = "NotebookInstance"
STATUS = f"{NOUN}Status"
LOG_GROUP = "/aws/sagemaker/NotebookInstances"
_KEY = "sagemaker-notebooks"
_REASON_CHARACTERS = 1024

_making = threading.Lock()


class Fleet:
    def __init__(self, cloud: Cloud) -> None:
        self.runs = runs_of(cloud)
        self._cloud = cloud

    # -- for operations ---------------------------------------------------------------------------------------------

    def start(self, place: Place) -> None:
        """Run an instance whose record says Pending."""
        self.runs.begin(self._drive, place)

    def stop(self, place: Place) -> None:
        """End an instance whose record says Stopping."""
        if (run := self.runs.here.get(place)) is not None:
            run.stop()

    def remove(self, place: Place) -> None:
        """Forget an instance whose record says Deleting, and its volume."""
        self.runs.begin(self._forget, place)

    # -- for the server ---------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """Go on where an earlier server stopped."""
        kept: set[str] = set()
        for table in self._cloud.store.tables(service="sagemaker", noun=NOUN):
            rows = self._cloud.rows(*table)
            for record in rows.all():
                kept.add(record["_id"])
                self._resume(record, Place(table.account, table.region, record[f"{NOUN}Name"].lower()))
        folder = folder_of(self._cloud)
        for left in list(folder.iterdir()) if folder.is_dir() else []:
            if left.name not in kept:
                shutil.rmtree(left, ignore_errors=True)

    # -- private ----------------------------------------------------------------------------------------------------

    def _resume(self, record: dict[str, Any], place: Place) -> None:
        status = record[STATUS]
        if status in ("Pending", "InService"):
            # What ran before is paid for until the server that died last saw it.
            self._tell(place, {STATUS: "Pending", "Url": None}, *ends(self._cloud, place, record[f"{NOUN}Arn"]))
            self.start(place)
        elif status == "Stopping":
            self.runs.begin(self._put_away, place)
        elif status == "Deleting":
            self.remove(place)
        elif record["_archive"] is not None:
            Volume(self._cloud, record["_id"]).drop_files()

    def _drive(self, place: Place) -> None:
        """One run, from Pending to Stopped or Failed."""
        rows = self._rows(place)
        record = rows.get(place.name)
        try:
            key = self._volume_key(place, record)
        except PilviError as error:  # as a disabled key keeps a volume from being attached
            self._put_away(place, str(error))
            return
        volume = Volume(self._cloud, record["_id"], key=key)
        ctx = self._context(place, record)
        run = Run(ctx, seat_of(record), volume)
        self.runs.here[place] = run
        try:
            run.seat = seat_of(record, repositories_of(ctx, record))
            reason = self._lived(place, run, volume, record)
        except PilviError as error:
            reason = str(error)
        except Exception:  # the instance must come to an end, and honestly
            log.exception("the notebook instance %s broke", place.name)
            reason = "InternalServerError: We encountered an internal error. Please try again."
        run.end()
        beat(self._cloud, place, run.seat.arn)(is_last=True)
        del self.runs.here[place]
        if not self.runs.is_closed:
            self._put_away(place, reason, key)

    def _lived(self, place: Place, run: Run, volume: Volume, record: dict[str, Any]) -> str:
        """Run it; gives why it ended."""
        rows, archive = self._rows(place), record["_archive"]
        volume.open(archive)
        if archive is not None:
            row = rows.row(place.name)
            assert row is not None
            self._cloud.store.write(rows.revision(place.name, row.value | {"_archive": None}, row.version), *releasing(archive))
            volume.drop_archive(archive)
        if self.runs.is_closed:
            return ""
        run.prepare()
        run.clone()
        self._run_scripts(place, run, record)
        run.start()
        arn, instance_type = run.seat.arn, run.seat.instance_type
        begin = begins(self._cloud, place, NOTEBOOK_USAGE, arn, instance_type)
        self._tell(place, self._changed("InService", Url=run.address, FailureReason=None), begin)
        run.on_look = beat(self._cloud, place, arn)
        return why(run.watch())

    def _run_scripts(self, place: Place, run: Run, record: dict[str, Any]) -> None:
        """What the lifecycle configuration wants: OnCreate until it has succeeded once, OnStart each time."""
        name = record.get(f"{lifecycle.NOUN}Name")
        if name is None:
            return
        scripts = self._cloud.rows(place.account, place.region, "sagemaker", lifecycle.NOUN).find(name.lower())
        for hook in lifecycle.HOOKS:
            script = lifecycle.script_of(scripts, hook)
            if script and not (hook == "OnCreate" and record.get("_is_made")):
                run.perform(hook, script)
            if hook == "OnCreate":
                self._rows(place).update(place.name, lambda value: value | {"_is_made": True})

    def _put_away(self, place: Place, reason: str = "", key: bytes | None = None) -> None:
        """Seal the volume, and tell the end: Stopped when it was asked for, else Failed. key: that of the run which has ended."""
        rows = self._rows(place)
        row = rows.row(place.name)
        if row is None:
            return
        archive = row.value["_archive"]
        volume = Volume(self._cloud, row.value["_id"], key=key)
        if archive is None:
            archive = self._packed(place, row.value, key)
        claims = claiming(archive) if row.value["_archive"] is None else ()
        while row is not None:
            is_asked_for = row.value[STATUS] == "Stopping"
            end = self._changed("Stopped") if is_asked_for else self._changed("Failed", FailureReason=reason[:_REASON_CHARACTERS])
            value = row.value | end | {"Url": None, "_archive": archive}
            try:
                ended = ends(self._cloud, place, value[f"{NOUN}Arn"])
                noted = state_note.noting(self._cloud, place.account, place.region, NOUN, value)
                self._cloud.store.write(rows.revision(place.name, value, row.version), *claims, *ended, noted)
            except Conflict:
                row = rows.row(place.name)  # a stop came between
                continue
            state_note.wake(self._cloud, place.account, place.region)
            break
        if archive is not None:
            volume.drop_files()

    def _packed(self, place: Place, record: dict[str, Any], key: bytes | None) -> str | None:
        try:
            key = key or self._volume_key(place, record)
        except PilviError as error:
            log.warning("the volume of the notebook instance %s stays unsealed: %s", place.name, error)
            return None
        return Volume(self._cloud, record["_id"], key=key).pack()

    def _volume_key(self, place: Place, record: dict[str, Any]) -> bytes | None:
        """The data key of a volume that has one of its own. Invalid when KMS does not give it."""
        sealed = record.get("_volume_key")
        return open_key(self._context(place, record), record[f"{NOUN}Arn"], sealed) if sealed else None

    def _forget(self, place: Place) -> None:
        rows = self._rows(place)
        record = rows.get(place.name)
        volume = Volume(self._cloud, record["_id"])
        volume.drop_files()
        ctx = self._context(place, record)
        self._cloud.store.write(rows.deletion(place.name), *untagging(ctx, record[f"{NOUN}Arn"]), *releasing(record["_archive"]))
        volume.drop_archive(record["_archive"])
        if record.get("_volume_key"):
            retire_key(ctx, record[f"{NOUN}Arn"], record["_volume_key"])

    def _tell(self, place: Place, members: dict[str, Any], *changes: Change) -> None:
        """Change the record, and whatever else has to change with it."""
        rows = self._rows(place)
        while (row := rows.row(place.name)) is not None:
            value = row.value | members
            noted = state_note.noting(self._cloud, place.account, place.region, NOUN, value)
            try:
                self._cloud.store.write(rows.revision(place.name, value, row.version), *changes, noted)
            except Conflict:
                continue
            state_note.wake(self._cloud, place.account, place.region)
            return

    def _rows(self, place: Place) -> Rows:
        return self._cloud.rows(place.account, place.region, "sagemaker", NOUN)

    def _context(self, place: Place, record: dict[str, Any]) -> Context:
        return context_for(self._cloud, place.account, place.region, record[f"{NOUN}Arn"])

    def _changed(self, status: str, **members: Any) -> dict[str, Any]:
        return {STATUS: status, "LastModifiedTime": self._cloud.clock.now(), **members}


def fleet_of(cloud: Cloud) -> Fleet:
    """The fleet of a cloud. The first to ask makes it, and what ran before a restart runs again. For threads."""
    found = cloud.memory.get(_KEY)
    if isinstance(found, Fleet) and not found.runs.is_closed:
        return found
    with _making:
        found = cloud.memory.get(_KEY)
        if isinstance(found, Fleet) and not found.runs.is_closed:
            return found
        fleet = Fleet(cloud)
        fleet.recover()
        cloud.memory[_KEY] = fleet
        return fleet


def seat_of(record: dict[str, Any], repositories: tuple[Repository, ...] = ()) -> Seat:
    """An instance's surroundings."""
    name, arn = record[f"{NOUN}Name"], record[f"{NOUN}Arn"]
    scripts = record.get(f"{lifecycle.NOUN}Name")
    return Seat(
        arn=arn,
        name=name,
        role_arn=record["RoleArn"],
        instance_type=record["InstanceType"],
        metadata={"ResourceArn": arn, "ResourceName": name, "ExecutionRoleArn": record["RoleArn"]},
        log_group=LOG_GROUP,
        log_stream=f"{name}/jupyter.log",
        script_stream=f"{name}/LifecycleConfig{{hook}}",
        script_trouble=f"Notebook Instance Lifecycle Config '{scripts}' ({{hook}}) for Notebook Instance '{arn}' {{trouble}}. "
        "Please check your CloudWatch logs for more details.",
        repositories=repositories,
        opens=repositories[0].folder if repositories and record.get("DefaultCodeRepository") else "",
    )


def why(how: Exit) -> str:
    if how.code == 0:
        return "InternalServerError: Jupyter was shut down."
    return f"InternalServerError: Jupyter ended with exit status {how.code}."
