"""Who may enter a notebook instance: Jupyter asks this class instead of knowing one password for ever.

The server that started the instance writes entries, `<end>.<signature>` or `<end>.<user>.<signature>`, under a key that both know. An
entry opens a session which lasts until its end and not longer; there is no password and no login page.
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
_OWNER = "owner"


class Closed(RequestHandler):  # type: ignore[misc]  # as below
    """What Jupyter shows in place of a login page."""

    def get(self) -> None:
        self.set_status(403)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish("The session has ended. Ask for a new presigned URL.\n")


class Sessions(IdentityProvider):  # type: ignore[misc]  # jupyter_server lies in the environment, not beside us
    """Sessions of the notebook's owner, or of the people who share it."""

    token = ""
    login_handler_class = Closed

    async def get_user_token(self, handler: Any) -> User | None:
        """Who comes, when the request brings an entry (`?token=`, or the Authorization header)."""
        end, name = read(self.get_token(handler) or "")
        return person(end, name) if end > time.time() else None

    def user_to_cookie(self, user: User) -> str:
        """The session's end and its user; Jupyter signs what it puts into a cookie."""
        name, _, end = str(user.username).rpartition("-")
        return f"{end}.{name}"

    def user_from_cookie(self, cookie_value: str) -> User | None:
        end, _, name = cookie_value.partition(".")
        return person(int(end), name) if int(end) > time.time() else None


def person(end: int, name: str) -> User:
    """Somebody for one session; the session's end is part of who they are, so that it ends with them."""
    shown = "Notebook owner" if name == _OWNER else name
    return User(f"{name}-{end}", name, shown, shown[:2].upper())


def read(entry: str) -> tuple[int, str]:
    """When the session of an entry ends, in seconds since 1970, and whose it is; 0 for an entry that was not written under our key."""
    told, _, signature = entry.rpartition(".")
    expected = hmac.new(_KEY, told.encode(), hashlib.sha256).hexdigest()
    end, _, name = told.partition(".")
    is_ours = bool(_KEY) and end.isdigit() and hmac.compare_digest(signature, expected)
    return (int(end), name or _OWNER) if is_ours else (0, "")
