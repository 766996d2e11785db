"""Large bodies that go from their reader to the socket inside one worker thread, past the event loop.

    reader --next--> piece --write--> socket        until the client cannot take more; then the loop waits for it, not a thread

A piece is sent while it still lies in the processor's cache, and its memory serves the next one. Through the loop every piece
changes threads twice on its way (measured: 64 MiB cost 28 ms of CPU so, 23 ms here).
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pilvi.core.streams import Piece

PATIENCE_MS = 5
WAITS = 10
TURN_BYTES = 64 << 20
"""How long and how often a thread waits for a client that is slower than the reader, and how much it sends, before others have it."""
THREADS = 2 * (os.cpu_count() or 2)
"""More would only drive each other's pieces out of the processor's cache: 16 at once took twice the time of 4."""


_threads = ThreadPoolExecutor(THREADS, "pilvi-send")


class DirectBody:
    """One body on its way out. `send` runs in a worker thread, one call after the other."""

    def __init__(self, fd: int, head: bytes, reader: Iterator[Piece]) -> None:
        self.is_stopped = False
        """Set by the loop: the client is gone, or the server ends."""
        self.sent = -len(head)
        """Bytes of the body that the kernel took."""
        self._fd = fd
        self._reader = reader
        self._left = memoryview(head)
        self._room = select.poll()
        self._room.register(fd, select.POLLOUT)

    def send(self) -> bool:
        """Send until the body is at its end (True) or the client is slow (False). OSError when nobody is there to read."""
        waits = 0
        turn_ends = self.sent + TURN_BYTES
        while not self.is_stopped:
            if self.sent >= turn_ends:
                return False
            if not self._left:
                piece = next(self._reader, b"")
                if not piece:
                    return True
                self._left = memoryview(piece)
            try:
                count = os.write(self._fd, self._left)
            except BlockingIOError:
                waits += 1
                if waits > WAITS or not self._room.poll(PATIENCE_MS):
                    return False
                continue
            self.sent += count
            self._left = self._left[count:]
        return True


async def send_directly(transport: Any, head: bytes, reader: Iterator[Piece], connection: Any) -> int:
    """Send a head and what a reader gives; gives how many bytes of the body went out.

    transport: of a plain socket, with nothing left to write. connection: of the HTTP rim.
    The socket is written through a descriptor of its own, which stays this socket's when the transport closes its one.
    """
    loop = asyncio.get_running_loop()
    fd = os.dup(transport.get_extra_info("socket").fileno())
    body = DirectBody(fd, head, reader)
    sending = loop.run_in_executor(_threads, body.send)
    try:
        while not await asyncio.shield(sending):
            if not connection.is_closing:
                await room(loop, fd, connection)
            if connection.is_closing:
                break
            connection.last_active = loop.time()
            sending = loop.run_in_executor(_threads, body.send)
    finally:
        body.is_stopped = True
        if not sending.done():
            await asyncio.wait([sending])
        if not sending.cancelled():
            sending.exception()
        os.close(fd)
    return body.sent


async def room(loop: asyncio.AbstractEventLoop, fd: int, connection: Any) -> None:
    """Wait until the client has taken something, or is gone (which makes the socket writable as well)."""
    connection.pause_writing()
    loop.add_writer(fd, connection.resume_writing)
    try:
        await connection.until_drained()
    finally:
        loop.remove_writer(fd)
