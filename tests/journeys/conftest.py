"""Whole stories, told from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilvi.testing.up import Up


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    """Starts servers; the default data directory is this test's own. All are ended with the test."""
    started: list[Up] = []

    def start(*options: str, data_dir: Path | None = None, like: Up | None = None) -> Up:
        server = Up(data_dir or tmp_path / "data", *options, like=like)
        started.append(server)
        return server

    yield start
    for server in started:
        if server.process.poll() is None:
            server.stop()
