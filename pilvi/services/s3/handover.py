"""Answers on their way from a function to the client that waits for them.

    GetObject --Waiting (token)-- function ... WriteGetObjectResponse --Pipe--> GetObject's answer --> client

A token is good once, for one request. A pipe holds little: the function's upload goes on as fast as the client reads. Everything
lives on the event loop and in this process; when either side is gone the other one is told.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from pilvi.core.service import Context
from pilvi.core.streams import ByteStream, Piece
from pilvi.services.s3.catalog import Lens

PIPE_BYTES = 1 << 20
"""How far a function may be ahead of the client."""

_MEMORY = "s3-object-lambda"


class PipeClosed(Exception):
    """Nobody reads any more."""


class Pipe:
    """Bytes from one request's body into another one's answer: an async iterator with a bound."""

    def __init__(self) -> None:
        self._pieces: deque[Piece] = deque()
        self._bytes = 0
        self._ended = False
        self._broken = False
        self._closed = False
        self._changed: asyncio.Event = asyncio.Event()

    async def put(self, piece: Piece) -> None:
        """PipeClosed when nobody reads any more."""
        while self._bytes >= PIPE_BYTES and not self._closed:
            await self._change()
        if self._closed:
            raise PipeClosed
        self._pieces.append(piece)
        self._bytes += len(piece)
        self._changed.set()

    def end(self) -> None:
        """All has been put."""
        self._ended = True
        self._changed.set()

    def break_off(self) -> None:
        """No more will come, and what came is not the whole. Nothing after `end`."""
        if not self._ended:
            self._broken = self._closed = True
            self._changed.set()

    async def aclose(self) -> None:
        """The reader goes."""
        self._closed = True
        self._pieces.clear()
        self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def __aiter__(self) -> Pipe:
        return self

    async def __anext__(self) -> Piece:
        while True:
            if self._broken:
                raise ConnectionResetError("the function did not write the whole answer")
            if self._pieces:
                piece = self._pieces.popleft()
                self._bytes -= len(piece)
                self._changed.set()
                return piece
            if self._ended or self._closed:
                raise StopAsyncIteration
            await self._change()


class Waiting:
    """A request that waits for its function's answer."""

    def __init__(self, lens: Lens, route: str, account: str) -> None:
        """account: the function's; only its identities may answer."""
        self.lens = lens
        self.route = route
        self.account = account
        self.answered: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.is_taken = False
        """Somebody has begun to answer."""
        self.pipe = Pipe()

    def settle(self, answer: dict[str, Any] | Exception) -> None:
        if self.answered.done():
            return
        if isinstance(answer, Exception):
            self.answered.set_exception(answer)
            self.answered.exception()  # seen: the request may have left
        else:
            self.answered.set_result(answer)

    def body(self, length: int | None) -> ByteStream:
        return ByteStream(source=self.pipe, length=length)


class Waitings:
    """All requests that wait, by token; and the invocations that go on behind answers."""

    def __init__(self) -> None:
        self.by_token: dict[str, Waiting] = {}
        self.invocations: set[asyncio.Task[Any]] = set()


def waitings_of(ctx: Context) -> Waitings:
    found = ctx.cloud.memory.get(_MEMORY)
    if not isinstance(found, Waitings):
        found = ctx.cloud.memory[_MEMORY] = Waitings()
    return found


def find_waiting(ctx: Context, token: str) -> Waiting | None:
    return waitings_of(ctx).by_token.get(token)
