"""Who may enter a notebook instance: Jupyter asks this class instead of knowing one password for ever.

The server that started the instance writes entries, `<end>.<signature>`, under a key that both know. An entry opens a session
which lasts until its end and not longer; there is no password and no login page.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from typing import Any

from jupyter_server.auth.identity import IdentityProvider, User
from tornado.web import RequestHandler

_KEY = os.environ.pop("PILVI_NOTEBOOK_KEY", "").encode()
_OWNER = "owner-"


class Closed(RequestHandler):  # type: ignore[misc]  # as below
    """What Jupyter shows in place of a login page."""

    def get(self) -> None:
        self.set_status(403)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish("The session has ended. Ask for a new presigned URL.\n")


class Sessions(IdentityProvider):  # type: ignore[misc]  # jupyter_server lies in the environment, not beside us
    """Sessions of the notebook's owner."""

    token = ""
    login_handler_class = Closed

    async def get_user_token(self, handler: Any) -> User | None:
        """The owner, when the request brings an entry (`?token=`, or the Authorization header)."""
        end = end_of(self.get_token(handler) or "")
        return owner(end) if end > time.time() else None

    def user_to_cookie(self, user: User) -> str:
        """The session's end; Jupyter signs what it puts into a cookie."""
        return str(user.username).removeprefix(_OWNER)

    def user_from_cookie(self, cookie_value: str) -> User | None:
        end = int(cookie_value)
        return owner(end) if end > time.time() else None


def owner(end: int) -> User:
    return User(f"{_OWNER}{end}", "owner", "Notebook owner", "NO")


def end_of(entry: str) -> int:
    """When the session of an entry ends, in seconds since 1970; 0 for an entry that was not written under our key."""
    end, _, signature = entry.partition(".")
    expected = hmac.new(_KEY, end.encode(), hashlib.sha256).hexdigest()
    return int(end) if _KEY and end.isdigit() and hmac.compare_digest(signature, expected) else 0
