"""Load without wrk: replays prepared requests over blocking connections, several in each of a few processes.

replay.py HOST PORT CONNECTIONS SECONDS FILE     prints the same line of JSON as replay.lua
"""

from __future__ import annotations

import json
import multiprocessing
import re
import selectors
import socket
import sys
import time
from pathlib import Path

LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
PROCESSES = 2


def read_requests(path: str) -> list[bytes]:
    data, found, at = Path(path).read_bytes(), [], 0
    while at < len(data):
        end = data.index(b"\n", at)
        length = int(data[at:end])
        found.append(data[end + 1 : end + 1 + length])
        at = end + 1 + length
    return found


class Connection:
    """One request at a time; knows an answer's end by its Content-Length."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.head = b""
        self.left = -1
        self.refused = 0

    def send(self, request: bytes) -> None:
        self.head, self.left = b"", -1
        self.socket.sendall(request)

    def receive(self) -> bool:
        """Whether the answer is whole now."""
        data = self.socket.recv(1 << 20)
        if not data:
            raise ConnectionError("the server closed the connection")
        if self.left < 0:
            self.head += data
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return False
            self.refused += self.head[9:10] not in (b"2", b"3")
            length = LENGTH.search(self.head, 0, end)
            self.left = (int(length[1]) if length else 0) - (len(self.head) - end - 4)
        else:
            self.left -= len(data)
        return self.left <= 0


def load(host: str, port: int, connections: int, seconds: float, requests: list[bytes], start: int) -> tuple[int, int, list[float]]:
    selector = selectors.DefaultSelector()
    sent: dict[Connection, float] = {}
    at, times = start, []
    for _ in range(connections):
        connection = Connection(host, port)
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.send(requests[at % len(requests)])
        sent[connection] = time.perf_counter()
        at += 1
    deadline = time.perf_counter() + seconds
    while (now := time.perf_counter()) < deadline:
        for key, _ in selector.select(1):
            connection = key.data
            if connection.receive():
                times.append(now - sent[connection])
                connection.send(requests[at % len(requests)])
                sent[connection] = now
                at += 1
    return len(times), sum(connection.refused for connection in sent), times


def main(host: str, port: int, connections: int, seconds: float, path: str) -> None:
    requests = read_requests(path)
    share = max(1, connections // PROCESSES)
    arguments = [(host, port, share, seconds, requests, number * 7919) for number in range(min(PROCESSES, connections))]
    begun = time.perf_counter()
    with multiprocessing.Pool(len(arguments)) as pool:
        results = pool.starmap(load, arguments)
    times = sorted(taken for _, _, some in results for taken in some) or [0.0]
    summary = {
        "requests": sum(count for count, _, _ in results),
        "seconds": min(seconds, time.perf_counter() - begun),
        "bytes": 0,
        "refused": sum(refused for _, refused, _ in results),
        "broken": 0,
        "p50_us": int(times[len(times) // 2] * 1e6),
        "p99_us": int(times[len(times) * 99 // 100] * 1e6),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5])
