"""Requests that are sent each once, over blocking connections or, where they are small and many, over a selector."""

from __future__ import annotations

import re
import selectors
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from load import Result

LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
PATIENCE_S = 120.0
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


def send_large(endpoint: str, requests: Iterable[bytes], connections: int) -> Result:
    """A thread for each connection: the interpreter is let go while a body is on its way."""
    waiting, lock = iter(requests), threading.Lock()
    times: list[float] = []
    failures: list[str] = []

    def work() -> None:
        line = Line(endpoint)
        while True:
            with lock:
                request = next(waiting, None)
            if request is None:
                break
            try:
                times.append(line.ask(request))
            except OSError as error:
                failures.append(repr(error))
                line.close()
                line = Line(endpoint)
                continue
            if line.status // 100 != 2:
                failures.append(str(line.status))
        line.close()

    threads = [threading.Thread(target=work) for _ in range(connections)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return result_of(times, time.perf_counter() - begun, sum(failure.isdigit() for failure in failures), len(failures))


def send_small(endpoint: str, requests: Iterable[bytes], connections: int) -> Result:
    """Many small requests by one thread."""
    waiting: Iterator[bytes] = iter(requests)
    selector = selectors.DefaultSelector()
    times: list[float] = []
    refused = open_lines = 0
    begun = time.perf_counter()
    for request, _ in zip(waiting, range(connections), strict=False):
        line = Line(endpoint)
        selector.register(line.socket, selectors.EVENT_READ, line)
        line.send(request)
        open_lines += 1
    while open_lines:
        for key, _ in selector.select(PATIENCE_S):
            line = key.data
            if not line.receive():
                continue
            times.append(time.perf_counter() - line.began)
            refused += line.status // 100 != 2
            request = next(waiting, b"")
            if request:
                line.send(request)
            else:
                selector.unregister(line.socket)
                line.close()
                open_lines -= 1
    return result_of(times, time.perf_counter() - begun, refused, refused)


def result_of(times: list[float], seconds: float, refused: int, failed: int) -> Result:
    times.sort()
    half, most = (times[len(times) // 2], times[len(times) * 99 // 100]) if times else (0.0, 0.0)
    return Result(len(times), max(seconds, 1e-9), refused, failed - refused, int(half * 1e6), int(most * 1e6))
