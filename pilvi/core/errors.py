"""What can go wrong, in plain words. The gateway turns these into AWS's codes.

    PilviError
    ├── NotFound        the thing asked for is not there
    ├── AlreadyExists   the name is taken
    ├── Conflict        somebody else changed it in between
    ├── InUse           it cannot be changed or removed while others need it
    ├── Invalid         the request makes no sense as it stands
    ├── LimitExceeded   more than this account may have
    ├── Denied          the caller may not do this
    ├── Unsupported     not built; never answered with a pretended success
    ├── Unavailable     cannot be done right now
    └── ServiceError    an AWS error by its own code, raised by the one operation that knows it

A service's `errors=` table maps the plain ones to its own codes once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class PilviError(Exception):
    """Base of every expected failure; `message` is shown to the caller."""

    def __init__(self, message: str = "", **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        self.fields: Mapping[str, Any] = fields
        """Further members of the error's shape, as AWS names them (for example `BucketName`)."""


class NotFound(PilviError):
    pass


class AlreadyExists(PilviError):
    pass


class Conflict(PilviError):
    pass


class InUse(PilviError):
    pass


class Invalid(PilviError):
    pass


class LimitExceeded(PilviError):
    pass


class Denied(PilviError):
    pass


class Unsupported(PilviError):
    pass


class Unavailable(PilviError):
    pass


class ServiceError(PilviError):
    """An AWS error by code. `status` is the HTTP status; None takes the model's, else 400."""

    def __init__(self, code: str, message: str = "", status: int | None = None, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.code = code
        self.status = status

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"
