"""What the built-in algorithms and their kit promise, checked in their own interpreter.

Each file of `inside/` is one child process of the environment `algorithms`, each function check_... in it is one test here.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
from functools import cache
from pathlib import Path

import pytest

from pilvi.compute.environments import Environments
from pilvi.core.config import Config

INSIDE = Path(__file__).parent / "inside"
PACKAGE = Path(__file__).parents[3] / "pilvi" / "runtimes" / "builtin"


def checks() -> list[tuple[str, str]]:
    """(file, function), without importing any."""
    found = []
    for path in sorted(INSIDE.glob("checks_*.py")):
        functions = [node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
        found += [(path.name, name) for name in functions if name.startswith("check_")]
    return found


@cache
def outcomes(file: str) -> dict[str, str]:
    """Function -> '' or what went wrong."""
    environment = Environments(Config.runtimes_dir_default()).find("algorithms")
    if environment is None:
        pytest.skip("the runtime is not installed: pilvi runtimes install algorithms")
    done = subprocess.run(
        [str(environment.bin / "python3"), str(INSIDE / "run.py"), str(INSIDE / file)],
        env={**os.environ, "PYTHONPATH": str(PACKAGE), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(("file", "name"), checks())
def test_inside(file: str, name: str) -> None:
    assert outcomes(file)[name] == ""
