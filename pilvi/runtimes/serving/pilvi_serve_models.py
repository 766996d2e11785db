"""Many models in one program: loaded, asked and unloaded by name.

    POST   /models {"model_name": ..., "url": folder}     200, 409 loaded already, 507 no memory for it
    GET    /models, /models/<name>
    DELETE /models/<name>
    POST   /models/<name>/invoke

Source: developer guide, "Contract for custom containers for multi-model endpoints".
"""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable
from pathlib import Path

from pilvi_serve_builtin import Builtin
from pilvi_serve_script import script_for
from pilvi_serve_worker import Model, Refused, Reply

_FULL = 0.8
"""Part of the memory beyond which no further model is loaded."""


def load(arguments: list[str]) -> Models:
    """Of a built-in algorithm where one is named, else of scripts."""
    if not arguments:
        return Models(script_for)
    from pilvi_algorithms.main import module_for

    algorithm = module_for(arguments[0])
    return Models(lambda folder: Builtin(algorithm, folder))


class Models:
    def __init__(self, made: Callable[[Path], Model]) -> None:
        self._made = made
        self._models: dict[str, tuple[Model, str]] = {}
        self._memory_mib = int(os.environ.get("PILVI_MEMORY_MIB") or 0)
        self._most = int(os.environ.get("SAGEMAKER_MAX_MODELS") or 0)

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> Reply:
        method, place = path.split(" ", 1)
        if place == "/models":
            return self._add(body) if method == "POST" else _told({"models": [self._one(name) for name in self._models]})
        name, _, rest = place.removeprefix("/models/").partition("/")
        if not place.startswith("/models/") or (method == "POST") != (rest == "invoke"):
            raise Refused(404, f"There is nothing at {place}.")
        found = self._models.get(name)
        if found is None:
            raise Refused(404, f"Model {name} is not loaded.")
        if method == "POST":
            return found[0].answer("POST /invocations", headers, body)
        if method == "DELETE":
            del self._models[name], found
            gc.collect()
            return _told({"status": f"Model {name} is unloaded"})
        return _told(self._one(name))

    def _add(self, body: bytes) -> Reply:
        asked = json.loads(body)
        name, url = asked["model_name"], asked["url"]
        if name in self._models:
            raise Refused(409, f"Model {name} is loaded already.")
        if self._is_full():
            raise Refused(507, f"There is no memory for model {name}.")
        try:
            self._models[name] = (self._made(Path(url)), url)
        except MemoryError as error:
            raise Refused(507, f"There is no memory for model {name}: {error}") from error
        return _told({"status": f"Model {name} is loaded"})

    def _is_full(self) -> bool:
        if self._most and len(self._models) >= self._most:
            return True
        return bool(self._models and self._memory_mib) and _resident_mib() > _FULL * self._memory_mib

    def _one(self, name: str) -> dict[str, str]:
        return {"modelName": name, "modelUrl": self._models[name][1]}


def _resident_mib() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20


def _told(what: object) -> Reply:
    return Reply(json.dumps(what).encode(), "application/json")
