"""What of the HTTP rim must be Python's own generators: compiled modules cannot make them (decisions/0006)."""

from __future__ import annotations

import types
from collections.abc import AsyncIterator, Coroutine, Generator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pilvi.gateway.http1 import Incoming


async def pieces_of(incoming: Incoming) -> AsyncIterator[bytes]:
    """A body's pieces as they arrive; the first demand is what a client that expects `100 Continue` waits for."""
    incoming.invite()
    while True:
        while (piece := incoming.take()) is not None:
            yield piece
        if not await incoming.more():
            return


@types.coroutine
def go_on(story: Coroutine[Any, Any, None], waits_for: Any) -> Generator[Any, Any, None]:
    """Carry a coroutine on that has run up to its first wait."""
    while True:
        try:
            value = yield waits_for
        except BaseException as error:  # noqa: BLE001 - whatever ends the wait belongs to the coroutine
            failure: BaseException | None = error
        else:
            failure = None
        try:
            waits_for = story.send(value) if failure is None else story.throw(failure)
        except StopIteration:
            return
