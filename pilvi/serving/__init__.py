"""Model servers: programs that answer requests over HTTP until somebody ends them, and the desk where requests find them.

    Desk (by account, Region, name) --> Answering (an endpoint) --> Server (a program) --> Lanes --> one HTTP/1.1 connection each

Knows of AWS only the words of a request to a model. Which program, which files, how many and when: whoever puts an endpoint on the desk.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

_KEY = "serving"


@dataclass(slots=True)
class Call:
    """One request to a model."""

    body: bytes
    content_type: str = ""
    accept: str = ""
    custom_attributes: str = ""
    variant: str = ""
    """The variant it is for; '' leaves that to the weights."""
    model: str = ""
    """Which of a multi-model endpoint's models."""
    container: str = ""
    """Host name of the container it is for, where they are asked directly."""
    inference_id: str = ""
    component: str = ""
    session: str = ""
    timeout_s: float = 60.0


@dataclass(slots=True)
class Answered:
    """What came of it."""

    body: bytes
    content_type: str
    variant: str
    custom_attributes: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    pieces: AsyncIterator[bytes] | None = None
    """The body as it comes, where it was asked for so; `body` is empty then."""


class Answering(Protocol):
    """An endpoint that is in service. On the event loop."""

    async def answer(self, call: Call) -> Answered:
        """Errors: ServiceError in the words of SageMaker's runtime API."""

    async def stream(self, call: Call) -> Answered:
        """The same, with `pieces` instead of a body."""

    async def accept(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        """Take a request whose body lies in S3, to be answered there. ServiceError where the endpoint is none of this kind."""


class Desk:
    """Endpoints by account, Region and name (lower case)."""

    def __init__(self) -> None:
        self.open: dict[tuple[str, str, str], Answering] = {}


def desk_of(cloud: Cloud) -> Desk:
    found: Desk | None = cloud.memory.get(_KEY)
    return cloud.memory.setdefault(_KEY, Desk()) if found is None else found
