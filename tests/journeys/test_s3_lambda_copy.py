"""Copies of uploads, thumbnails, code that fails where everybody sees it, and a loop that is cut: by unmodified clients."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pilvi.compute.environments import Environments
from pilvi.core.config import Config
from pilvi.testing.server import Account, eventually

DEMO = Path(__file__).parent.parent.parent / "demo"
sys.path.insert(0, str(DEMO))

from story.packages import layer_archive  # noqa: E402
from uploads import copy_uploads  # noqa: E402
from uploads.cloud import Cloud  # noqa: E402

RUNTIMES = Environments(Config.runtimes_dir_default())
WITH_PILLOW = RUNTIMES.find("notebook")

pytestmark = pytest.mark.skipif(RUNTIMES.find("lambda-python") is None, reason="needs: pilvi runtimes install lambda-python")


@pytest.fixture
def cloud(later_aws: Account, passes: Callable[[float], None]) -> Cloud:
    return Cloud(later_aws.client, passes)


def test_only_matching_uploads_are_copied_whole(cloud: Cloud) -> None:
    etags = copy_uploads.copies(cloud)
    assert list(etags) == ["in/a name with blanks & ünïcode+.txt", "in/plain.txt"]
    assert all(there == here for there, here in etags.values())
    told = sorted(f"copied uploads-{cloud.account}/{key}\n" for key in etags)
    eventually(lambda: sorted(cloud.lines("copy-uploads", "copied")) == told)


@pytest.mark.skipif(WITH_PILLOW is None, reason="needs: pilvi runtimes install notebook")
def test_a_picture_gets_a_thumbnail(cloud: Cloud, tmp_path: Path) -> None:
    """Pillow comes as a layer, as on AWS."""
    assert WITH_PILLOW is not None
    site = next(WITH_PILLOW.path.glob("lib/python3*/site-packages"))
    picture, small = copy_uploads.thumbnail(cloud, layer_archive(site, tmp_path / "pillow.zip", "pillow").read_bytes())
    assert copy_uploads.size_of(picture) == (640, 480)
    assert copy_uploads.size_of(small) == (64, 48)
    assert len(small) < len(picture)


def test_the_given_code_fails_where_it_is_seen(cloud: Cloud) -> None:
    trace, errors = copy_uploads.given_code(cloud)
    assert "[ERROR] KeyError: 'source_bucket'" in trace[0]
    assert "Traceback (most recent call last)" in trace[0]
    assert "line 9, in lambda_handler" in trace[0]
    assert errors == 1


def test_a_loop_is_cut_and_reported(cloud: Cloud) -> None:
    runs, dropped = copy_uploads.loop(cloud)
    assert runs == 16
    assert dropped == 1
