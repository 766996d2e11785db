"""Jobs on a real Ray cluster of two nodes. The story runs under an interpreter that has Ray; each chapter is a test here."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pilvi.testing.contracts.compute import CONTRACT

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("PILVI_RAY_PYTHON") or ROOT / ".venv-ray" / "bin" / "python")
CHAPTERS = [
    *(promise.__name__ for promise in CONTRACT),
    "programs_die_with_the_server",
    "training_on_two_nodes",
    "training_on_nodes_that_share_no_files",
    "a_lost_node_ends_its_programs",
]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    if not PYTHON.exists():
        pytest.skip("there is no interpreter with Ray: sh scripts/heavy_env.sh ray")
    temporary = tmp_path_factory.mktemp("ray")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", "TMPDIR": str(temporary)}
    told = subprocess.run(
        [str(PYTHON), str(ROOT / "tests" / "heavy" / "ray_story.py")], env=environment, capture_output=True, text=True, timeout=900
    )
    chapters = [json.loads(line) for line in told.stdout.splitlines() if line.startswith('{"chapter"')]
    assert chapters, told.stderr[-4000:]
    return {chapter["chapter"]: chapter for chapter in chapters}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_on_ray(story: dict[str, dict[str, Any]], chapter: str) -> None:
    assert chapter in story, sorted(story)
    assert not story[chapter]["error"], story[chapter]["error"]


def test_namespaces_hold_on_ray(story: dict[str, dict[str, Any]]) -> None:
    for name, chapter in story.items():
        assert not chapter["error"], (name, chapter["error"])
