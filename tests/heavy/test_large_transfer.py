"""A gigabyte up and down with boto3's transfers and retries, through a server that is killed three times each way."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilvi.testing.up import Up

sys.path.insert(0, str(Path(__file__).parent.parent / "journeys"))
from test_transfer_tools import move_through_kills

SIZE_MIB = 1024


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def start(*options: str) -> Up:
        started.append(Up(tmp_path / "data", *options))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.stop()


def test_a_gigabyte_outlives_kills_of_the_server(up: Callable[..., Up], tmp_path: Path) -> None:
    move_through_kills(up, tmp_path, SIZE_MIB, kills=3)
