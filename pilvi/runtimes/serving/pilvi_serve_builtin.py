"""A built-in algorithm: what its training left, asked as AWS's containers are asked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pilvi_serve_worker import Refused, Reply

MODEL = Path(os.environ.get("PILVI_MODEL_DIR") or "/opt/ml/model")


def load(arguments: list[str]) -> Builtin:
    from pilvi_algorithms.main import module_for

    return Builtin(module_for(arguments[0]), MODEL)


class Builtin:
    def __init__(self, algorithm: Any, folder: Path) -> None:
        from pilvi_algorithms.kit.errors import RequestError

        self._algorithm = algorithm
        self._refusal = RequestError
        if not folder.is_dir() or not any(folder.iterdir()):
            raise FileNotFoundError(f"The model folder {folder} is empty.")
        self._model = algorithm.load(folder)

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> Reply:
        if path != "POST /invocations":
            raise Refused(404, f"There is nothing at {path.partition(' ')[2]}.")
        if not body:
            raise Refused(400, "unable to evaluate payload provided: the body is empty")
        try:
            out, content_type = self._algorithm.predict(
                self._model, body, headers.get("content-type", ""), headers.get("accept", "")
            )
        except self._refusal as error:
            raise Refused(error.status, str(error)) from error
        return Reply(out, content_type)
