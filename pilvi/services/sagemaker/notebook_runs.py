"""Every Jupyter that runs for a cloud, whoever it runs for: their threads, their URLs, their roles' keys.

Notebook instances (notebook_fleet.py) and Studio's apps (studio_fleet.py) put their runs here; notebook_door.py asks here.
"""

from __future__ import annotations

import hmac
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilvi.core.errors import Unavailable
from pilvi.core.service import Context
from pilvi.services.sagemaker.job_check import SESSION
from pilvi.services.sagemaker.notebook_run import Run, identity_of
from pilvi.services.sagemaker.notebook_ticket import Place, Tickets

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

log = logging.getLogger("pilvi.sagemaker")

_KEY = "sagemaker-runs"
_CLOSE_S = 10.0

_making = threading.Lock()


@dataclass(frozen=True, slots=True)
class Guest:
    """A program that gets its role's keys by this door, too."""

    secret: str
    ctx: Context
    role_arn: str


class Runs:
    def __init__(self, cloud: Cloud) -> None:
        self.tickets = Tickets(cloud.clock, cloud.ids)
        self.is_closed = False
        self.here: dict[Place, Run] = {}
        self.guests: dict[str, Guest] = {}
        """Other programs that live long and need keys anew, by id: model servers."""
        self._cloud = cloud
        self._threads: set[threading.Thread] = set()
        self._last: dict[tuple[str, ...], threading.Thread] = {}
        """By what it has to itself, the thread that came last."""
        self._lock = threading.Lock()

    def begin(self, work: Callable[[Place], None], place: Place, volume: str = "") -> None:
        """Do it on a thread of its own, after what was begun earlier for the same volume. Unavailable when the server is stopping.

        volume: its name, where more than one place may have it. A record tells an end before the files are tidied away, and whoever
        starts again at once must not lose theirs.
        """
        key = (place.account, place.region, volume or place.name)

        def carried_out() -> None:
            try:
                if before is not None:
                    before.join()
                if not self.is_closed:
                    work(place)
            except Exception:  # the record tells where it stands, and others must go on
                if not self.is_closed:
                    log.exception("%s was lost by its thread", place.name)
            finally:
                with self._lock:
                    self._threads.discard(thread)
                    if self._last.get(key) is thread:
                        del self._last[key]

        thread = threading.Thread(target=carried_out, name="pilvi-notebook", daemon=True)
        with self._lock:
            if self.is_closed:
                raise Unavailable("The server is stopping.")
            before = self._last.get(key)
            self._last[key] = thread
            self._threads.add(thread)
            thread.start()

    def entrance(self, place: Place, session_s: int, path: str = "", user: str = "") -> str | None:
        """A URL of Jupyter's own; None when nothing runs there."""
        run = self.here.get(place)
        return run.entrance(self._cloud.clock.real_s() + session_s, path, user) if run is not None and run.address else None

    def credentials(self, id: str, secret: str) -> dict[str, str] | None:
        """Fresh keys of a run's role, as the container credential contract has them; None for whoever is no run of ours.

        Denied when the role has gone or no longer trusts SageMaker.
        """
        run = next((run for run in list(self.here.values()) if run.id == id), None)
        found: Run | Guest | None = run or self.guests.get(id)
        if found is None or not hmac.compare_digest(found.secret, secret):
            return None
        if isinstance(found, Guest):
            identity = found.ctx.cloud.identities.assume_role(found.ctx.principal, found.role_arn, SESSION)
            role_arn = found.role_arn
        else:
            identity, role_arn = identity_of(found.ctx, found.seat), found.seat.role_arn
        assert identity.expires is not None
        return {
            "AccessKeyId": identity.access_key_id,
            "SecretAccessKey": identity.secret,
            "Token": identity.session_token,
            "Expiration": f"{identity.expires:%Y-%m-%dT%H:%M:%SZ}",
            "RoleArn": role_arn,
        }

    def close(self) -> None:
        """End every process. Records stay as they are: the next server starts them again."""
        with self._lock:
            self.is_closed = True
            threads = list(self._threads)
        for run in list(self.here.values()):
            run.kill()
        deadline = self._cloud.clock.real_s() + _CLOSE_S
        for thread in threads:
            thread.join(max(0.0, deadline - self._cloud.clock.real_s()))


def runs_of(cloud: Cloud) -> Runs:
    """The runs of a cloud; the first to ask makes the place for them."""
    with _making:
        found = cloud.memory.get(_KEY)
        if isinstance(found, Runs) and not found.is_closed:
            return found
        cloud.memory[_KEY] = made = Runs(cloud)
        return made


def close_runs(cloud: Cloud) -> None:
    """The server stops."""
    with _making:
        found = cloud.memory.get(_KEY)
    if isinstance(found, Runs):
        found.close()
