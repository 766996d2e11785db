"""A container of script mode in a folder, without a server: SAGEMAKER_BASE_DIR moves /opt/ml there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

SUPPORT = Path(__file__).parents[3] / "pilvi" / "runtimes" / "training"


class Container:
    def __init__(self, base: Path) -> None:
        self.base = base
        self.env: dict[str, str] = {}
        self.python = sys.executable
        for folder in ("input/config", "input/data", "code", "model", "output"):
            (base / folder).mkdir(parents=True)
        self.configure({})

    def configure(self, hyperparameters: Mapping[str, Any], hosts: tuple[str, ...] = ("localhost",), **more: Any) -> None:
        """hyperparameters: as the SDK sends them, JSON in texts; more: whole configuration files by their name."""
        group = {"instance_group_name": "homogeneousCluster", "instance_type": "ml.c5.xlarge", "hosts": list(hosts)}
        resources = {
            "current_host": hosts[0],
            "hosts": list(hosts),
            "current_group_name": "homogeneousCluster",
            "current_instance_type": "ml.c5.xlarge",
            "instance_groups": [group],
        }
        files = {"hyperparameters": dict(hyperparameters), "resourceconfig": resources, "inputdataconfig": {}} | more
        for name, content in files.items():
            (self.base / "input" / "config" / f"{name}.json").write_text(json.dumps(content))

    def code(self, **files: str) -> None:
        for name, text in files.items():
            (self.base / "code" / name.replace("__", ".")).write_text(text)

    def train(self, **env: str) -> subprocess.CompletedProcess[str]:
        fixed = {
            "PATH": os.environ["PATH"],
            "SAGEMAKER_BASE_DIR": str(self.base),
            "PYTHONPATH": str(SUPPORT),
            "TRAINING_JOB_NAME": "job-1",
            "AWS_REGION": "us-east-1",
            "PIP_TARGET": str(self.base / "packages"),
            "PIP_NO_INDEX": "1",
        }
        return subprocess.run(
            [self.python, "-m", "pilvi_train"],
            env=fixed | self.env | env,
            capture_output=True,
            text=True,
            timeout=300,
            cwd=self.base,
            check=False,
        )

    @property
    def failure(self) -> str:
        path = self.base / "output" / "failure"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def container(tmp_path: Path) -> Container:
    return Container(tmp_path / "ml")
