"""Where jobs run, by the setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilvi.app.places import PLACES, job_compute
from pilvi.compute.process import ProcessCompute
from pilvi.core.config import Config
from pilvi.core.errors import Invalid, Unavailable
from pilvi.testing.server import TestServer


def test_local_is_this_machine(tmp_path: Path) -> None:
    local = ProcessCompute("none")
    assert job_compute(Config(tmp_path), local) is local


def test_unknown_places_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="local, ray, kubernetes, slurm"):
        job_compute(Config(tmp_path, compute="mesos:x"), ProcessCompute("none"))


@pytest.mark.parametrize(
    ("place", "module", "words"), [("ray", "ray", "pilvi.ray."), ("kubernetes", "kubernetes", "pilvi.kubernetes.")]
)
def test_a_library_that_is_not_there_is_named(tmp_path: Path, place: str, module: str, words: str) -> None:
    try:
        __import__(module)
    except ImportError:
        with pytest.raises(Unavailable, match=words):
            job_compute(Config(tmp_path, host="0.0.0.0", compute=place), ProcessCompute("none"))
    else:
        pytest.skip(f"{module} is installed")


def test_pods_need_a_server_they_can_reach(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="--host"):
        job_compute(Config(tmp_path, compute="kubernetes"), ProcessCompute("none"))


def test_a_server_runs_jobs_where_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = ProcessCompute("none")
    monkeypatch.setitem(PLACES, "here", lambda config, where: made)
    with TestServer(tmp_path, compute="here:x") as server:
        assert server.cloud.job_compute is made
        assert server.cloud.compute is not made
    with pytest.raises(Unavailable):
        made.launch(None, None)  # type: ignore[arg-type]
