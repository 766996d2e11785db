"""What a model server answers, and how it can fail to."""

from __future__ import annotations

from collections.abc import Mapping


class Answer:
    """One HTTP answer. Never changed."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        """By lower-case name."""
        self.body = body


class Broken(Exception):
    """The connection to a model server went, or what it says is no HTTP."""

    def __init__(self, message: str, *, was_sent: bool = True) -> None:
        super().__init__(message)
        self.was_sent = was_sent
        """Whether the model server may have seen the request."""


class TookTooLong(Exception):
    """A model server has not answered within its time."""


class StartFailed(Exception):
    """A model server did not come up; the text says why."""
