"""What rows are made of: a built-in training job in a folder, in a process of its own."""

from __future__ import annotations

import functools
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

DATA = Path(os.environ["DATA"]) if os.environ.get("DATA") else None
ROWS: dict[str, Callable[[], dict[str, Any]]] = {}


def row(function: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """Declare a row: a function that gives algorithm, data, measure, ours, plain, library, seconds."""
    ROWS[function.__name__] = function
    return function


def needs_data(function: Callable[[Path], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """Declare a row on the folder of public data."""

    @functools.wraps(function)
    def with_data() -> dict[str, Any]:
        return function(DATA) if DATA is not None else {}

    return row(with_data)


def main() -> None:
    wanted = [name for name in os.environ.get("ROWS", "").split(",") if name]
    for name, function in ROWS.items():
        if not wanted or name in wanted:
            try:
                if found := function():
                    print(json.dumps(found), flush=True)
            except Exception:  # noqa: BLE001 - the other rows go on
                print(f"{name}: {traceback.format_exc()}", file=sys.stderr)


def cpu_seconds() -> float:
    """Of all child processes so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Trained:
    """One job, run to its end."""

    def __init__(
        self, repository: str, hyperparameters: dict[str, Any], channels: dict[str, tuple[bytes | dict[str, bytes], str]]
    ) -> None:
        """channels: name -> (its one file, or its files by name; their content type)."""
        self.folder = Path(tempfile.mkdtemp(prefix="algorithm-"))
        self.repository = repository
        config = self.folder / "input/config"
        config.mkdir(parents=True)
        (config / "hyperparameters.json").write_text(json.dumps({name: str(value) for name, value in hyperparameters.items()}))
        (config / "resourceconfig.json").write_text(json.dumps({"current_host": "algo-1", "hosts": ["algo-1"]}))
        (config / "inputdataconfig.json").write_text(
            json.dumps({name: {"ContentType": kind} for name, (_, kind) in channels.items()})
        )
        for name, (data, _) in channels.items():
            (self.folder / "input/data" / name).mkdir(parents=True)
            for file, content in ({"part-0": data} if isinstance(data, bytes) else data).items():
                (self.folder / "input/data" / name / file).write_bytes(content)
        self.run()

    def run(self) -> float:
        """CPU seconds of the whole process: on a shared machine they repeat, and clocks do not."""
        began = cpu_seconds()
        command = [sys.executable, "-m", "pilvi_algorithms.main", self.repository, "train"]
        done = subprocess.run(
            command, env={**os.environ, "SAGEMAKER_BASE_DIR": str(self.folder)}, capture_output=True, text=True, check=False
        )
        self.seconds = cpu_seconds() - began
        self.log = done.stdout
        assert done.returncode == 0, done.stdout + done.stderr
        return self.seconds

    @property
    def module(self) -> Any:
        return importlib.import_module(f"pilvi_algorithms.{self.repository.removeprefix('sagemaker-').replace('-', '_')}")

    def model(self) -> Any:
        return self.module.load(self.folder / "model")

    def predictions(self, body: bytes, content_type: str = "text/csv") -> list[dict[str, Any]]:
        answer, _ = self.module.predict(self.model(), body, content_type, "application/json")
        return next(iter(json.loads(answer).values()))

    def told(self, words: str) -> float:
        """The last figure of the log behind these words."""
        return float(next(line for line in reversed(self.log.splitlines()) if words in line).rpartition("=")[2])
