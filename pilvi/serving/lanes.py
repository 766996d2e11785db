"""The lanes to one model server: as many requests at once as it takes, the others wait their turn.

    ask --(a free lane)--> lane --(answer)--> free for the next in the queue
     \\--(none)--> queue, and one more lane is opened while there may be more

A new lane counts once the server has answered a ping on it: a server that takes one request a worker leaves connections unanswered until
another worker is up, and requests do not wait there while a lane that is open may come free.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from pilvi.serving.answer import Answer, Broken, StartFailed, TookTooLong
from pilvi.serving.lane import Lane

PING: Final = b"GET /ping HTTP/1.1\r\nHost: model\r\nContent-Length: 0\r\n\r\n"
SOCKET: Final = "model.sock"
"""Name of the socket in its folder."""
PING_S: Final = 2.0
"""Source: developer guide, "How Your Container Should Respond to Health Check (Ping) Requests"."""
_OPENING_S: Final = 120.0
_ATTEMPTS: Final = 3


class Lanes:
    def __init__(self, loop: asyncio.AbstractEventLoop, place: Path | tuple[str, int], most: int) -> None:
        """place: the folder of its Unix socket, or host and port. most: requests at once."""
        self.place = place
        self.most = most
        self.in_flight = 0
        self.is_closed = False
        self._loop = loop
        self._open: set[Lane] = set()
        self._idle: list[Lane] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._waiting: deque[asyncio.Future[Lane]] = deque()

    @property
    def load(self) -> int:
        """Requests that are being answered or wait."""
        return self.in_flight + len(self._waiting)

    # -- asking -------------------------------------------------------------------------------------------------------

    async def ask(self, head: bytes, body: bytes, timeout_s: float) -> Answer:
        """Errors: Broken, TookTooLong. A lane that had gone before the request was sent is passed over."""
        for attempt in range(_ATTEMPTS):
            lane = await self._take(timeout_s)
            self.in_flight += 1
            try:
                return await lane.ask(head, body, timeout_s)
            except Broken as error:
                if error.was_sent or attempt + 1 == _ATTEMPTS:
                    raise
            finally:
                self.in_flight -= 1
                self._give_back(lane)
        raise AssertionError

    async def stream(self, head: bytes, body: bytes, timeout_s: float) -> tuple[Answer, AsyncIterator[bytes]]:
        """The head of the answer, and its body piece by piece; the lane is taken until that has ended."""
        lane = await self._take(timeout_s)
        self.in_flight += 1
        try:
            answer, pieces = await lane.stream(head, body, timeout_s)
        except BaseException:
            self.in_flight -= 1
            self._give_back(lane)
            raise
        return answer, self._passed_on(lane, pieces)

    async def _passed_on(self, lane: Lane, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            async for piece in pieces:
                yield piece
        finally:
            await pieces.aclose()  # type: ignore[attr-defined]
            self.in_flight -= 1
            self._give_back(lane)

    async def ping(self, within_s: float = PING_S) -> int:
        """The status that /ping answers, on a connection of its own. Errors: Broken, TookTooLong, OSError."""
        lane = await self._connect()
        try:
            return (await lane.ask(PING, b"", within_s)).status
        finally:
            self._open.discard(lane)
            lane.close()

    def close(self) -> None:
        self.is_closed = True
        for task in self._opening:
            task.cancel()
        for lane in list(self._open):
            lane.close()
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(Broken("The model server has ended.", was_sent=False))

    # -- private ------------------------------------------------------------------------------------------------------

    async def _take(self, timeout_s: float) -> Lane:
        while self._idle:
            lane = self._idle.pop()
            if lane.is_open:
                return lane
        if self.is_closed:
            raise Broken("The model server has ended.", was_sent=False)
        self._open_another()
        turn: asyncio.Future[Lane] = self._loop.create_future()
        self._waiting.append(turn)
        try:
            return await asyncio.wait_for(turn, timeout_s)
        except TimeoutError:
            raise Broken("The model server takes no more requests.", was_sent=False) from None
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._give_back(turn.result())
            raise

    def _give_back(self, lane: Lane) -> None:
        if not lane.is_open:
            self._open.discard(lane)
            if self._waiting:
                self._open_another()
            return
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(lane)
                return
        self._idle.append(lane)

    def _open_another(self) -> None:
        if not self.is_closed and len(self._open) + len(self._opening) < self.most:
            task = self._loop.create_task(self._opened())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _opened(self) -> None:
        try:
            lane = await self._connect()
            if (await lane.ask(PING, b"", _OPENING_S)).status < 500:
                self._give_back(lane)
                return
            lane.close()
        except (Broken, TookTooLong, OSError) as error:
            if not self._open:
                self._refuse(str(error) or type(error).__name__)

    def _refuse(self, why: str) -> None:
        """Nothing is open and nothing opens: who waits is told."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(Broken(f"The model server cannot be reached: {why}", was_sent=False))

    def _lost(self, lane: Lane) -> None:
        self._open.discard(lane)
        with contextlib.suppress(ValueError):
            self._idle.remove(lane)

    async def _connect(self) -> Lane:
        def made() -> Lane:
            return Lane(self._loop, self._lost)

        if isinstance(self.place, tuple):
            _, lane = await self._loop.create_connection(made, *self.place)
        else:
            # The name of a socket has at most 107 characters, and data directories may have more.
            folder = os.open(self.place, os.O_PATH | os.O_DIRECTORY)
            try:
                _, lane = await self._loop.create_unix_connection(made, f"/proc/self/fd/{folder}/{SOCKET}")
            finally:
                os.close(folder)
        self._open.add(lane)
        return lane


async def until_answering(lanes: Lanes, is_over: asyncio.Future[str], within_s: float, every_s: float = 0.05) -> None:
    """Return once /ping answers 200. StartFailed when the program ends before (`is_over` tells how), or the time is over."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    last = "nothing answered"
    while not is_over.done():
        if loop.time() > deadline:
            raise StartFailed(last)
        try:
            status = await lanes.ping()
            if status == 200:
                return
            last = f"/ping answered {status}"
        except (Broken, TookTooLong, OSError) as error:
            last = str(error) or last
        await asyncio.wait((is_over,), timeout=every_s)
    raise StartFailed(is_over.result())
