"""The hosts of one job working together: gathering on the first, sending to all, adding up. A job with one host needs no network.

The first host listens; each other host keeps one connection to it. Everything sent comes from this job's own hosts: the connection
is authenticated with the job's name and ARN, and values are pickled.
"""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Sequence
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

PORT = int(os.environ.get("PILVI_CLUSTER_PORT", "29400"))
"""Each host has an address of its own; the variable is for hosts that share one, as in tests."""
_PATIENCE_S = 120.0


class Cluster:
    def __init__(self, hosts: Sequence[str], current: str, port: int = PORT) -> None:
        self.hosts = sorted(hosts, key=_by_number)
        self.rank = self.hosts.index(current) if current in self.hosts else 0
        self._port = port
        self._connections: list[Connection] = []

    @property
    def size(self) -> int:
        return len(self.hosts)

    @property
    def is_many(self) -> bool:
        return len(self.hosts) > 1

    @property
    def is_leader(self) -> bool:
        """The host that writes the model."""
        return self.rank == 0

    @property
    def leader(self) -> str:
        return self.hosts[0]

    def gather(self, value: Any) -> list[Any] | None:
        """Everybody's values in the order of ranks, on the first host; None elsewhere."""
        if not self.is_many:
            return [value]
        connections = self._connected()
        if self.is_leader:
            return [value, *(connection.recv() for connection in connections)]
        connections[0].send(value)
        return None

    def broadcast(self, value: Any = None) -> Any:
        """The first host's value, everywhere."""
        if not self.is_many:
            return value
        connections = self._connected()
        if not self.is_leader:
            return connections[0].recv()
        for connection in connections:
            connection.send(value)
        return value

    def sum(self, value: Any) -> Any:
        """The sum of everybody's numbers or arrays (or of each in a list or tuple of them), everywhere."""
        if not self.is_many:
            return value
        parts = self.gather(value)
        return self.broadcast(None if parts is None else _added(parts))

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
        self._connections = []

    def _connected(self) -> list[Connection]:
        if not self._connections:
            self._connections = self._accept() if self.is_leader else [self._connect()]
        return self._connections

    def _accept(self) -> list[Connection]:
        by_rank: dict[int, Connection] = {}
        with Listener((self.leader, self._port), backlog=len(self.hosts), authkey=_key()) as listener:
            while len(by_rank) < len(self.hosts) - 1:
                connection = _quick(listener.accept())
                by_rank[connection.recv()] = connection
        return [by_rank[rank] for rank in sorted(by_rank)]

    def _connect(self) -> Connection:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                connection = _quick(Client((self.leader, self._port), authkey=_key()))
                connection.send(self.rank)
                return connection
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


def _quick(connection: Connection) -> Connection:
    """Small messages go at once: waiting for more to send would cost 40 ms a step."""
    with socket.socket(fileno=os.dup(connection.fileno())) as same:
        same.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _added(parts: list[Any]) -> Any:
    if isinstance(parts[0], (list, tuple)):
        return [_added(list(column)) for column in zip(*parts, strict=True)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _by_number(host: str) -> tuple[int, str]:
    """algo-2 before algo-10."""
    number = host.rpartition("-")[2]
    return (int(number) if number.isdecimal() else 0, host)


def _key() -> bytes:
    name = os.environ.get("TRAINING_JOB_ARN", "") + os.environ.get("TRAINING_JOB_NAME", "")
    return hashlib.sha256(name.encode()).digest()
