"""Requests that are sent each once, over blocking connections or, where they are small and many, over a selector."""

from __future__ import annotations

import re
import selectors
import socket
import threading
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

from load import Result

LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
PATIENCE_S = 30.0
"""For one connection to say something."""
LOAD_S = 240.0
"""For a whole load; what is not sent by then is not sent."""
FAILURES = 64
"""Broken connections in a row after which a server is given up."""
PIECE_BYTES = 256 << 10


class Line:
    """One connection, one request at a time; knows an answer's end by its Content-Length."""

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        self.socket = socket.create_connection((str(parts.hostname), parts.port or 80), PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(PIECE_BYTES)
        self._head = b""
        self._left = -1
        self.status = 0
        self.began = 0.0

    def send(self, request: bytes) -> None:
        self._head, self._left = b"", -1
        self.began = time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> bool:
        """Take what is there; whether the answer is whole now."""
        count = self.socket.recv_into(self._buffer)
        if not count:
            raise ConnectionError("the server closed the connection")
        if self._left >= 0:
            self._left -= count
            return self._left <= 0
        self._head += self._buffer[:count]
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            return False
        self.status = int(self._head[9:12])
        length = LENGTH.search(self._head, 0, end + 2)
        if length is None and self.status != 204:
            raise ConnectionError("an answer of unknown length")
        self._left = (int(length[1]) if length is not None else 0) - (len(self._head) - end - 4)
        return self._left <= 0

    def ask(self, request: bytes) -> float:
        """Send and wait for the whole answer; gives the seconds it took."""
        self.send(request)
        while not self.receive():
            pass
        return time.perf_counter() - self.began

    def close(self) -> None:
        self.socket.close()


class Tally:
    """What came of a load. It ends when all is sent, when a server fails too often in a row, or when its time is over."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.refused = 0
        self.broken = 0
        self.in_a_row = 0
        self.begun = time.perf_counter()

    @property
    def is_over(self) -> bool:
        return self.in_a_row >= FAILURES or time.perf_counter() - self.begun > LOAD_S

    def answered(self, seconds: float, status: int) -> None:
        self.times.append(seconds)
        self.in_a_row = 0
        if status // 100 != 2:
            self.refused += 1

    def failed(self) -> None:
        self.broken += 1
        self.in_a_row += 1

    def result(self) -> Result:
        return result_of(self.times, time.perf_counter() - self.begun, self.refused, self.refused + self.broken)


def send_large(endpoint: str, requests: Iterable[bytes], connections: int) -> Result:
    """A thread for each connection: the interpreter is let go while a body is on its way."""
    waiting, lock, tally = iter(requests), threading.Lock(), Tally()

    def work() -> None:
        line: Line | None = None
        while True:
            with lock:
                request = None if tally.is_over else next(waiting, None)
            if request is None:
                break
            try:
                line = line or Line(endpoint)
                seconds = line.ask(request)
            except (OSError, ValueError):
                if line is not None:
                    line.close()
                line = None
                with lock:
                    tally.failed()
            else:
                with lock:
                    tally.answered(seconds, line.status)
        if line is not None:
            line.close()

    threads = [threading.Thread(target=work) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tally.result()


def send_small(endpoint: str, requests: Iterable[bytes], connections: int) -> Result:
    """Many small requests by one thread. A connection that breaks, or says nothing for long, counts and is replaced."""
    waiting, selector, tally = iter(requests), selectors.DefaultSelector(), Tally()

    def begin() -> bool:
        """Send the next request over a new connection, if there is one and the server takes it."""
        while not tally.is_over and (request := next(waiting, None)) is not None:
            line: Line | None = None
            try:
                line = Line(endpoint)
                line.send(request)
            except OSError:
                tally.failed()
                if line is not None:
                    line.close()
            else:
                selector.register(line.socket, selectors.EVENT_READ, line)
                return True
        return False

    def end(line: Line) -> None:
        selector.unregister(line.socket)
        line.close()

    for _ in range(connections):
        if not begin():
            break
    while selector.get_map():
        ready = [key.data for key, _ in selector.select(PATIENCE_S)]
        silent = [] if ready else [key.data for key in selector.get_map().values()]
        for line in silent:
            end(line)
            tally.failed()
            begin()
        for line in ready:
            try:
                if not line.receive():
                    continue
                tally.answered(time.perf_counter() - line.began, line.status)
                request = None if tally.is_over else next(waiting, None)
                if request is None:
                    end(line)
                else:
                    line.send(request)
            except (OSError, ValueError):
                end(line)
                tally.failed()
                begin()
        if tally.is_over:
            for line in [key.data for key in selector.get_map().values()]:
                end(line)
                tally.failed()
    selector.close()
    return tally.result()


def result_of(times: list[float], seconds: float, refused: int, failed: int) -> Result:
    times.sort()
    half, most = (times[len(times) // 2], times[len(times) * 99 // 100]) if times else (0.0, 0.0)
    return Result(len(times), max(seconds, 1e-9), refused, failed - refused, int(half * 1e6), int(most * 1e6))
