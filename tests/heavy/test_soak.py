"""The soak test for twenty seconds; `make soak` runs it for ten minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.heavy.soak import soak


@pytest.mark.parametrize("mirrors", [0, 2])
def test_nothing_acknowledged_is_lost_when_the_server_is_killed(tmp_path: Path, mirrors: int) -> None:
    options = [word for number in range(mirrors) for word in ("--mirror", str(tmp_path / f"mirror{number}"))]
    tally = soak(tmp_path / "data", 20.0, 5.0, print, *options)
    assert (tally.lost, tally.corrupt, tally.errors) == ([], [], [])
    assert tally.acknowledged > 100
