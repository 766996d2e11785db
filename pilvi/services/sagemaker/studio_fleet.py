"""Studio's apps that run: a JupyterLab or Code Editor each, in the home folder of a space.

    Pending --(it answers)--> InService --(DeleteApp)--> Deleting --> Deleted
       \\--(it cannot start)--> Failed           \\--(its end)--> Failed

The record is the truth and is written last: when it says Deleted, nothing runs and the space's files are sealed. Making this is also
what follows a restart: what ran is started again, what was half done is done.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pilvi.core.errors import Conflict, PilviError
from pilvi.services.sagemaker import studio_lifecycle_config as lifecycle
from pilvi.services.sagemaker.metered import app_usage, beat, begins, ends
from pilvi.services.sagemaker.notebook_fleet import why
from pilvi.services.sagemaker.notebook_program import PROGRAMS
from pilvi.services.sagemaker.notebook_run import Run, context_for
from pilvi.services.sagemaker.notebook_runs import runs_of
from pilvi.services.sagemaker.notebook_seat import Seat
from pilvi.services.sagemaker.notebook_ticket import Place
from pilvi.services.sagemaker.notebook_volume import STUDIO, Volume, claiming, folder_of, releasing
from pilvi.services.sagemaker.volume_key import open_key

if TYPE_CHECKING:
    from pilvi.core.service import Cloud, Context
    from pilvi.storage.records import Change, Rows

log = logging.getLogger("pilvi.sagemaker")

APP, SPACE = "App", "Space"
LOG_GROUP = "/aws/sagemaker/studio"
HOME = "studio-home/"
"""Places whose names begin so are a user's page, not a run: studio-home/<domain>/<user profile>."""
_PREFIX = "studio-app/"
_FILES = "/home/sagemaker-user"
_KEY = "sagemaker-studio"
_REASON_CHARACTERS = 1024

_making = threading.Lock()


class Studio:
    def __init__(self, cloud: Cloud) -> None:
        self.runs = runs_of(cloud)
        self._cloud = cloud

    # -- for operations ---------------------------------------------------------------------------------------------

    def start(self, place: Place) -> None:
        """Run an app whose record says Pending."""
        self.runs.begin(self._drive, place, volume_of(place))

    def stop(self, place: Place) -> None:
        """End an app whose record says Deleting."""
        if (run := self.runs.here.get(place)) is not None:
            run.stop()
        else:
            self.runs.begin(self._put_away, place, volume_of(place))

    # -- for the server ---------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """Go on where an earlier server stopped."""
        for table in self._cloud.store.tables(service="sagemaker", noun=APP):
            rows = self._cloud.rows(*table)
            for record in rows.all():
                self._resume(record, place_of(table.account, table.region, record))
        kept = {
            record["_id"]
            for table in self._cloud.store.tables(service="sagemaker", noun=SPACE)
            for record in self._cloud.rows(*table).all()
        }
        folder = folder_of(self._cloud, STUDIO)
        for left in list(folder.iterdir()) if folder.is_dir() else []:
            if left.name not in kept:
                shutil.rmtree(left, ignore_errors=True)

    # -- private ----------------------------------------------------------------------------------------------------

    def _resume(self, record: dict[str, Any], place: Place) -> None:
        if record["Status"] in ("Pending", "InService"):
            # What ran before is paid for until the server that died last saw it.
            self._tell(place, lambda value: value | {"Status": "Pending"}, lambda: ends(self._cloud, place, record["AppArn"]))
            self.start(place)
        elif record["Status"] == "Deleting":
            self.runs.begin(self._put_away, place, volume_of(place))

    def _drive(self, place: Place) -> None:
        """One run, from Pending to Deleted or Failed."""
        record = self._apps(place).get(key_of(place))
        space = self._spaces(place).get(space_key(record))
        ctx = context_for(self._cloud, place.account, place.region, record["AppArn"])
        try:
            key = self._volume_key(ctx, record)
        except PilviError as error:  # as a disabled key keeps a volume from being attached
            self._put_away(place, str(error))
            return
        volume = Volume(self._cloud, space["_id"], STUDIO, key)
        run = Run(ctx, seat_of(record, space), volume)
        self.runs.here[place] = run
        try:
            reason = self._lived(place, run, volume, record, space)
        except PilviError as error:
            reason = str(error)
        except Exception:  # the app must come to an end, and honestly
            log.exception("the app %s broke", place.name)
            reason = "InternalServerError: We encountered an internal error. Please try again."
        run.end()
        beat(self._cloud, place, run.seat.arn)(is_last=True)
        del self.runs.here[place]
        if not self.runs.is_closed:
            self._put_away(place, reason, key)

    def _lived(self, place: Place, run: Run, volume: Volume, record: dict[str, Any], space: dict[str, Any]) -> str:
        """Run it; gives why it ended."""
        spaces, archive = self._spaces(place), space["_archive"]
        volume.open(archive)
        if archive is not None:
            row = spaces.row(space_key(record))
            assert row is not None
            value = row.value | {"_archive": None}
            self._cloud.store.write(spaces.revision(space_key(record), value, row.version), *releasing(archive))
            volume.drop_archive(archive)
        if self.runs.is_closed:
            return ""
        run.prepare()
        if arn := record["ResourceSpec"].get("LifecycleConfigArn"):
            run.perform("OnStart", lifecycle.script_of(run.ctx, arn))
        run.start()
        begin = begins(self._cloud, place, app_usage(record["AppType"]), run.seat.arn, run.seat.instance_type)
        self._tell(
            place,
            lambda value: value | {"Status": "InService"} if value["Status"] == "Pending" else None,
            lambda: (begin,),
        )
        run.on_look = beat(self._cloud, place, run.seat.arn)
        if self._apps(place).get(key_of(place))["Status"] == "Deleting":
            run.stop()
        return why(run.watch())

    def _put_away(self, place: Place, reason: str = "", key_of_run: bytes | None = None) -> None:
        """Seal the space's files, and tell the end: Deleted when it was asked for, else Failed."""
        apps, spaces = self._apps(place), self._spaces(place)
        row = apps.row(key_of(place))
        if row is None:
            return
        key = space_key(row.value)
        space = spaces.row(key)
        assert space is not None
        volume = Volume(self._cloud, space.value["_id"], STUDIO, key_of_run)
        archive = space.value["_archive"] or self._packed(place, row.value, space.value, key_of_run)
        claims = claiming(archive) if space.value["_archive"] is None else ()
        while row is not None and space is not None:
            is_asked_for = row.value["Status"] == "Deleting"
            end = {"Status": "Deleted"} if is_asked_for else {"Status": "Failed", "FailureReason": reason[:_REASON_CHARACTERS]}
            try:
                self._cloud.store.write(
                    apps.revision(key_of(place), row.value | end, row.version),
                    spaces.revision(key, space.value | {"_archive": archive}, space.version),
                    *claims,
                    *ends(self._cloud, place, row.value["AppArn"]),
                )
            except Conflict:
                row, space = apps.row(key_of(place)), spaces.row(key)  # a change came between
                continue
            break
        if archive is not None:
            volume.drop_files()

    def _packed(self, place: Place, record: dict[str, Any], space: dict[str, Any], key: bytes | None) -> str | None:
        try:
            key = key or self._volume_key(context_for(self._cloud, place.account, place.region, record["AppArn"]), record)
        except PilviError as error:
            log.warning("the volume of the space %s stays unsealed: %s", space_key(space), error)
            return None
        return Volume(self._cloud, space["_id"], STUDIO, key).pack()

    def _volume_key(self, ctx: Context, record: dict[str, Any]) -> bytes | None:
        """The data key of the domain's volumes, where it has one of its own. Invalid when KMS does not give it."""
        domain = self._cloud.rows(ctx.account, ctx.region, "sagemaker", "Domain").find(record["DomainId"]) or {}
        sealed = domain.get("_volume_key")
        return open_key(ctx, domain["DomainArn"], sealed) if sealed else None

    def _tell(
        self,
        place: Place,
        change: Callable[[dict[str, Any]], dict[str, Any] | None],
        more: Callable[[], tuple[Change, ...]],
    ) -> None:
        """Change the record, and with it what `more` says; nothing when there is nothing to change."""
        apps = self._apps(place)
        while (row := apps.row(key_of(place))) is not None and (value := change(row.value)) is not None:
            try:
                self._cloud.store.write(apps.revision(key_of(place), value, row.version), *more())
            except Conflict:
                continue
            return

    def _apps(self, place: Place) -> Rows:
        return self._cloud.rows(place.account, place.region, "sagemaker", APP)

    def _spaces(self, place: Place) -> Rows:
        return self._cloud.rows(place.account, place.region, "sagemaker", SPACE)


def studio_of(cloud: Cloud) -> Studio:
    """The apps of a cloud. The first to ask makes this, and what ran before a restart runs again. For threads."""
    found = cloud.memory.get(_KEY)
    if isinstance(found, Studio) and not found.runs.is_closed:
        return found
    with _making:
        found = cloud.memory.get(_KEY)
        if isinstance(found, Studio) and not found.runs.is_closed:
            return found
        made = Studio(cloud)
        made.recover()
        cloud.memory[_KEY] = made
        return made


def app_key(domain: str, space: str, kind: str, name: str) -> str:
    """As an app's ARN has it, and its row."""
    return f"{domain}/{space}/{kind}/{name}".lower()


def space_key(record: dict[str, Any]) -> str:
    return f"{record['DomainId']}/{record['SpaceName']}".lower()


def place_of(account: str, region: str, record: dict[str, Any]) -> Place:
    key = app_key(record["DomainId"], record["SpaceName"], record["AppType"], record["AppName"])
    return Place(account, region, f"{_PREFIX}{key}")


def volume_of(place: Place) -> str:
    """What all apps of a space have in common, whatever their type."""
    return place.name.rsplit("/", 2)[0]


def key_of(place: Place) -> str:
    return place.name.removeprefix(_PREFIX)


def seat_of(record: dict[str, Any], space: dict[str, Any]) -> Seat:
    """An app's surroundings."""
    name = f"{record['DomainId']}/{record['SpaceName']}/{record['AppType']}/{record['AppName']}"
    owner = (space.get("OwnershipSettings") or {}).get("OwnerUserProfileName")
    metadata = {
        "AppType": record["AppType"],
        "DomainId": record["DomainId"],
        "SpaceName": record["SpaceName"],
        **({"UserProfileName": owner} if owner else {}),
        "ExecutionRoleArn": record["_role"],
        "ResourceArn": record["AppArn"],
        "ResourceName": record["AppName"],
    }
    return Seat(
        arn=record["AppArn"],
        name=name,
        role_arn=record["_role"],
        instance_type=record["ResourceSpec"]["InstanceType"],
        metadata=metadata,
        log_group=LOG_GROUP,
        log_stream=name,
        script_stream=f"{name}/LifecycleConfig{{hook}}",
        script_trouble="The lifecycle configuration ({hook}) of the app {trouble}. Please check your CloudWatch logs for more details.",
        program=PROGRAMS[record["AppType"]],
        user="sagemaker-user",
        home=_FILES,
        files=_FILES,
        is_shared=(space.get("SpaceSharingSettings") or {}).get("SharingType") == "Shared",
        variables=(("SAGEMAKER_SPACE_NAME", record["SpaceName"]), ("SAGEMAKER_APP_TYPE", record["AppType"])),
    )
