"""Work on volumes, one after the other: nobody tidies away what somebody else has opened."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from pilvi.core.errors import Unavailable
from pilvi.services.sagemaker.notebook_runs import Runs
from pilvi.services.sagemaker.notebook_ticket import Place
from pilvi.testing.server import eventually

HERE, THERE = Place("1", "r", "studio-app/d/space/jupyterlab/default"), Place("1", "r", "studio-app/d/space/codeeditor/default")


@pytest.fixture
def runs() -> Runs:
    import time

    cloud: Any = SimpleNamespace(clock=SimpleNamespace(real_s=time.monotonic), ids=None)
    return Runs(cloud)


def test_begin_waits_for_earlier_work_on_the_same_volume(runs: Runs) -> None:
    done: list[str] = []
    may_end, has_begun = threading.Event(), threading.Event()

    def slow(_: Place) -> None:
        has_begun.set()
        may_end.wait(20)
        done.append("tidied away")

    runs.begin(slow, HERE, "space")
    has_begun.wait(20)
    runs.begin(lambda _: done.append("opened again"), THERE, "space")
    runs.begin(lambda _: done.append("another volume"), Place("1", "r", "other"))
    eventually(lambda: done == ["another volume"])
    may_end.set()
    eventually(lambda: done == ["another volume", "tidied away", "opened again"])


def test_begin_does_nothing_when_the_server_stops(runs: Runs) -> None:
    done: list[str] = []
    may_end = threading.Event()
    runs.begin(lambda _: may_end.wait(20), HERE)
    runs.begin(lambda _: done.append("late"), HERE)
    threading.Timer(0.1, may_end.set).start()
    runs.close()
    assert done == []
    with pytest.raises(Unavailable, match="stopping"):
        runs.begin(lambda _: None, HERE)
