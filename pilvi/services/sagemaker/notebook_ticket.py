"""Tickets and entries: how one gets from a presigned URL into a running Jupyter without a password.

    AuthorizedUrl --(once, within five minutes)--> ticket --> entry, under the run's key --> a session that ends when it said

Source: SageMaker API reference, CreatePresignedNotebookInstanceUrl.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pilvi.core.clock import Clock
    from pilvi.core.ids import Ids

PATH = "/_aws/notebook/"
"""Where this service's plain HTTP is; notebook_door.py answers it."""
URL_S = 300
"""How long a presigned URL may be opened."""
SESSION_S = 43200
"""How long the session behind it lasts, when the request does not say."""
_TOKEN_LENGTH = 64
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


class Place(NamedTuple):
    """Which instance, or which of Studio's apps and pages (studio_fleet.py names them)."""

    account: str
    region: str
    name: str
    """In lower case, as its ARN and its row have it."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A presigned URL that has not been opened."""

    place: Place
    expires_s: float
    session_s: int
    path: str = ""
    """The folder or file that it leads to; '' is where one begins."""
    user: str = ""
    """Who comes; '' is the owner of a notebook instance."""


class Tickets:
    """Presigned URLs that may still be opened. They live in memory: a restart ends them, as five minutes would."""

    def __init__(self, clock: Clock, ids: Ids) -> None:
        self._clock = clock
        self._ids = ids
        self._open: dict[str, Ticket] = {}
        self._lock = threading.Lock()

    def issue(self, place: Place, session_s: int, path: str = "", url_s: int = URL_S, user: str = "") -> str:
        """A token that opens the place once, within `url_s` seconds."""
        now = self._clock.real_s()
        token = self._ids.pick(_LETTERS, _TOKEN_LENGTH)
        with self._lock:
            self._open = {known: ticket for known, ticket in self._open.items() if ticket.expires_s > now}
            self._open[token] = Ticket(place, now + url_s, session_s, path, user)
        return token

    def take(self, token: str) -> Ticket | None:
        """What the token opens; None when it is unknown, used, or too old."""
        with self._lock:
            ticket = self._open.pop(token, None)
        return ticket if ticket is not None and ticket.expires_s > self._clock.real_s() else None


def entry(key: str, end_s: float, user: str = "") -> str:
    """What Jupyter takes for a session of this user until `end_s` (pilvi/runtimes/notebook checks it). User names have no dots."""
    told = f"{int(end_s)}.{user}" if user else str(int(end_s))
    return f"{told}.{hmac.new(key.encode(), told.encode(), hashlib.sha256).hexdigest()}"


def presigned_url(endpoint: str, name: str, token: str) -> str:
    return f"{endpoint}{PATH}open/{name}?authToken={token}"
