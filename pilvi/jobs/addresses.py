"""Loopback addresses for the hosts of jobs: all of 127.0.0.0/8 leads to this machine, so every host can have one of its own.

Programs of two jobs may then listen on the same port of "their" host, as long as they listen on that host's address.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from pilvi.core.errors import Unavailable

_FIRST, _LAST = 2, 0xFFFE
"""127.0.0.2 to 127.0.255.254."""


class Addresses:
    """Which are taken. They go round, so that a port that is still winding down is not met at once."""

    def __init__(self) -> None:
        self._taken: set[int] = set()
        self._next = _FIRST
        self._lock = threading.Lock()

    def take(self, count: int) -> tuple[str, ...]:
        """So many addresses that nobody has."""
        with self._lock:
            if len(self._taken) + count > _LAST - _FIRST + 1:
                raise Unavailable("There are no loopback addresses left for more hosts.")
            found: list[int] = []
            while len(found) < count:
                number, self._next = self._next, self._next + 1 if self._next < _LAST else _FIRST
                if number not in self._taken:
                    self._taken.add(number)
                    found.append(number)
            return tuple(map(_text, found))

    def give_back(self, addresses: Iterable[str]) -> None:
        with self._lock:
            self._taken.difference_update(map(_number, addresses))


def _text(number: int) -> str:
    return f"127.0.{number >> 8}.{number & 255}"


def _number(address: str) -> int:
    parts: Sequence[str] = address.split(".")
    return int(parts[2]) << 8 | int(parts[3])


LOOPBACK = Addresses()
"""This machine's. One for the process: addresses belong to the machine, not to a server."""
