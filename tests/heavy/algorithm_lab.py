"""Training jobs of the deep built-in algorithms, and questions to their models, for the heavy tests."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pilvi.compute.environments import Environments
from pilvi.testing.server import TestServer
from tests.services.sagemaker.conftest import Lab

PACKAGE = Path(__file__).parents[2] / "pilvi" / "runtimes" / "builtin"
ACCOUNTS = {"ntm": "382416733822", "object2vec": "382416733822", "forecasting-deepar": "522234722520"}
ASK = """
import base64, importlib, json, pathlib, sys
module, folder, requests = json.load(sys.stdin)
algorithm = importlib.import_module(module)
model = algorithm.load(pathlib.Path(folder))
for body, content_type, accept in requests:
    answer, kind = algorithm.predict(model, base64.b64decode(body), content_type, accept)
    print(json.dumps([base64.b64encode(answer).decode(), kind]))
"""


class AlgorithmLab:
    """One account, one algorithm's image."""

    def __init__(self, server: TestServer, lab: Lab, repository: str, folder: Path) -> None:
        environment = Environments(server.config.runtimes_dir).find("pytorch")
        if environment is None:
            pytest.skip("the runtime is not installed: pilvi runtimes install pytorch")
        self.lab, self.repository, self.folder = lab, repository, folder
        self._python = environment.bin / "python"

    def make(self, program: str, *arguments: str) -> Path:
        """Run a program that writes data into the current folder; it has numpy, scikit-learn, Pillow and the algorithms' own readers."""
        target = self.folder / "made"
        target.mkdir(exist_ok=True)
        self._run(["-c", program, *arguments], cwd=target)
        return target

    def channel(self, name: str, source: Path | Mapping[str, str | bytes], content_type: str = "", **more: Any) -> dict[str, Any]:
        """A channel with these files."""
        prefix = f"{self.repository}/{name}"
        files = (
            {str(path.relative_to(source)): path.read_bytes() for path in sorted(source.rglob("*")) if path.is_file()}
            if isinstance(source, Path)
            else source
        )
        for key, data in files.items():
            self.lab.put(f"{prefix}/{key}", data)
        return self.lab.channel(
            name, f"s3://{self.lab.bucket}/{prefix}/", **({"ContentType": content_type} if content_type else {}), **more
        )

    def train(
        self, name: str, hyperparameters: Mapping[str, Any], channels: list[dict[str, Any]], **more: Any
    ) -> Mapping[str, Any]:
        """A job to its end."""
        image = f"{ACCOUNTS.get(self.repository, '811284229777')}.dkr.ecr.us-east-1.amazonaws.com/{self.repository}:1"
        self.lab.start(
            name,
            algorithm={"TrainingImage": image, "TrainingInputMode": more.pop("mode", "File")},
            HyperParameters={key: str(value) for key, value in hyperparameters.items()},
            InputDataConfig=channels,
            StoppingCondition={"MaxRuntimeInSeconds": 400},
            **more,
        )
        return self.lab.wait(name, within_s=420)

    def trained(
        self, name: str, hyperparameters: Mapping[str, Any], channels: list[dict[str, Any]], **more: Any
    ) -> dict[str, float]:
        """The final metrics of a job that must end well."""
        found = self.train(name, hyperparameters, channels, **more)
        assert found["TrainingJobStatus"] == "Completed", (found.get("FailureReason"), self.lab.lines(name)[-20:])
        return {metric["MetricName"]: metric["Value"] for metric in found.get("FinalMetricDataList", ())}

    def ask(self, name: str, *requests: tuple[bytes | str, str, str]) -> list[tuple[bytes, str]]:
        """Answers of a job's model to (body, content type, accept)."""
        folder = self.folder / f"model-{name}"
        for member, data in self.lab.members(f"out/{name}/output/model.tar.gz").items():
            path = folder / member
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        bodies = [(base64.b64encode(body.encode() if isinstance(body, str) else body).decode(), *more) for body, *more in requests]
        module = f"pilvi_algorithms.{self.repository.replace('-', '_')}"
        out = self._run(["-c", ASK], input=json.dumps([module, str(folder), bodies]))
        answers = [json.loads(line) for line in out.splitlines() if line.startswith("[")]
        return [(base64.b64decode(answer), kind) for answer, kind in answers]

    def _run(self, arguments: list[str], **more: Any) -> str:
        env = {**os.environ, "PYTHONPATH": str(PACKAGE), "OMP_WAIT_POLICY": "PASSIVE"}
        done = subprocess.run(
            [str(self._python), *arguments], env=env, capture_output=True, text=True, timeout=200, check=False, **more
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout
