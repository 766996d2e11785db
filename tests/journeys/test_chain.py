"""S3, a topic, two queues, a function behind each, S3 again, under kill -9: every upload arrives at both ends (`make chain` at length)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pilvi.compute.environments import Environments
from pilvi.core.config import Config
from pilvi.testing.up import Up
from tests.heavy.chain import ENDS, Chain

UPLOADS = 150

pytestmark = pytest.mark.skipif(
    Environments(Config.runtimes_dir_default()).find("lambda-python") is None, reason="needs: pilvi runtimes install lambda-python"
)


def test_every_upload_arrives_at_every_end_through_kills(up: Callable[..., Up]) -> None:
    chain = Chain(up)
    chain.prepare(hidden_s=10)
    chain.run(UPLOADS, seconds=6.0, round_s=3.0)
    report = chain.settle(120)
    assert report.kills >= 1
    assert report.uploads == UPLOADS
    for end in ENDS:
        assert report.missing(end, chain.acknowledged) == []
        assert set(report.arrived[end]) == set(chain.acknowledged)
    assert report.dead == {}
