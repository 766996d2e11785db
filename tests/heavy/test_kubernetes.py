"""Pods by the official client: the story runs under an interpreter that has it; and on a real cluster where there is one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("PILVI_KUBERNETES_PYTHON") or ROOT / ".venv-kubernetes" / "bin" / "python")
REAL = """
import sys, tempfile
from dataclasses import replace
from pathlib import Path
from pilvi.compute.kubernetes import kubernetes_compute
from pilvi.testing.contracts.compute import Heard, run, shell
compute = kubernetes_compute(sys.argv[1], Path(tempfile.mkdtemp()))
ended, lines = run(compute, replace(shell("echo from the cluster; exit 3"), cpus=1, memory_mib=128))
compute.close()
print(ended.code, *lines)
"""


def told_by(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    if not PYTHON.exists():
        pytest.skip("there is no interpreter with the Kubernetes client: sh scripts/heavy_env.sh kubernetes")
    given = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([str(PYTHON), *arguments], env=given, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("chapter", ["manifests_are_what_the_api_knows", "the_official_client_makes_and_ends_pods"])
def test_with_the_official_client(chapter: str) -> None:
    told = told_by(str(ROOT / "tests" / "heavy" / "kubernetes_story.py"))
    chapters = {found["chapter"]: found for found in map(json.loads, told.stdout.splitlines())}
    assert chapter in chapters, told.stderr[-4000:]
    assert not chapters[chapter]["error"], chapters[chapter]["error"]


def test_on_a_real_cluster() -> None:
    where = os.environ.get("PILVI_KUBERNETES")
    if where is None or shutil.which("kubectl") is None:
        pytest.skip("there is no cluster: set PILVI_KUBERNETES=NAMESPACE, with a kubeconfig whose nodes see this machine's folders")
    told = told_by("-c", REAL, where)
    assert told.stdout.splitlines()[-1] == "3 from the cluster", told.stderr[-4000:]
