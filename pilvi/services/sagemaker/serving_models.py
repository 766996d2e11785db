"""The models that one container of a multi-model endpoint has in memory: fetched and loaded when first asked for, the least used go.

Source: developer guide, "Multi-model endpoints", "CloudWatch Metrics for Multi-Model Endpoint Deployments". Differs: files of models that
were unloaded stay on this machine's disk as long as the instance lives.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context
from pilvi.services.sagemaker.job_check import SESSION
from pilvi.services.sagemaker.model_check import data_uri
from pilvi.services.sagemaker.serving_files import unpack_object
from pilvi.serving.answer import Answer, StartFailed
from pilvi.serving.lanes import Lanes

MODELS = "/opt/ml/models"
_LOAD_S = 60.0
_NO_MEMORY = 507
_LOADED = 409

Note = Callable[[str, float, str], None]
"""(metric, value, unit)"""


class ModelCache:
    """Of one container; on the event loop."""

    def __init__(self, ctx: Context, role_arn: str, container: Mapping[str, Any], folder: Path, note: Note) -> None:
        """folder: the one that is shown as /opt/ml/models."""
        self._ctx = ctx
        self._role_arn = role_arn
        self._uri = data_uri(container)
        self._keeps = (container.get("MultiModelConfig") or {}).get("ModelCacheSetting") != "Disabled"
        self._folder = folder
        self._note = note
        self._loaded: OrderedDict[str, None] = OrderedDict()
        self._coming: dict[str, asyncio.Task[None]] = {}
        self._busy: dict[str, int] = {}

    async def ask(self, lanes: Lanes, model: str, head: Callable[[str], bytes], body: bytes, timeout_s: float) -> Answer:
        """The answer of a model by its key below the prefix. head: of a request to a path."""
        name = sha256(model.encode()).hexdigest()
        loop = asyncio.get_running_loop()
        is_hit, began = name in self._loaded, loop.time()
        self._busy[name] = self._busy.get(name, 0) + 1
        try:
            if not is_hit:
                await self._brought(lanes, model, name)
                self._note("ModelLoadingWaitTime", (loop.time() - began) * 1e6, "Microseconds")
            self._note("ModelCacheHit", float(is_hit), "None")
            if name in self._loaded:
                self._loaded.move_to_end(name)
            self._note("LoadedModelCount", float(len(self._loaded)), "None")
            return await lanes.ask(head(f"/models/{name}/invoke"), body, timeout_s)
        finally:
            self._busy[name] -= 1
            if not self._keeps and not self._busy[name] and name in self._loaded:
                await self._unload(lanes, name)

    async def _brought(self, lanes: Lanes, model: str, name: str) -> None:
        """Loaded once, however many ask meanwhile."""
        if (task := self._coming.get(name)) is None:
            task = self._coming[name] = asyncio.get_running_loop().create_task(self._load(lanes, model, name))
            task.add_done_callback(lambda _: self._coming.pop(name, None))
        await asyncio.shield(task)

    async def _load(self, lanes: Lanes, model: str, name: str) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.to_thread(self._fetch, model, name)
        fetched = loop.time()
        self._note("ModelDownloadingTime", (fetched - began) * 1e6, "Microseconds")
        body = json.dumps({"model_name": name, "url": f"{MODELS}/{name}/model"}).encode()
        while True:
            found = await lanes.ask(_head("POST", "/models", len(body)), body, _LOAD_S)
            if 200 <= found.status < 300 or found.status == _LOADED:
                break
            if found.status == _NO_MEMORY and (oldest := self._idle()) is not None:
                await self._unload(lanes, oldest)
                continue
            said = found.body.decode(errors="replace")
            status = 507 if found.status == _NO_MEMORY else found.status
            raise ServiceError(
                "ModelError", f"Failed to load model {model}: {said}", 424, OriginalStatusCode=status, OriginalMessage=said
            )
        self._loaded[name] = None
        self._note("ModelLoadingTime", (loop.time() - fetched) * 1e6, "Microseconds")

    def _idle(self) -> str | None:
        """The model that nobody asks now, and was asked longest ago."""
        return next((name for name in self._loaded if not self._busy.get(name)), None)

    async def _unload(self, lanes: Lanes, name: str) -> None:
        self._loaded.pop(name, None)
        began = asyncio.get_running_loop().time()
        await lanes.ask(_head("DELETE", f"/models/{name}", 0), b"", _LOAD_S)
        self._note("ModelUnloadingTime", (asyncio.get_running_loop().time() - began) * 1e6, "Microseconds")

    def _fetch(self, model: str, name: str) -> None:
        place = self._folder / name / "model"
        if place.exists():
            return
        part = self._folder / name / "part"
        part.mkdir(parents=True, exist_ok=True)
        uri = f"{self._uri.rstrip('/')}/{model.lstrip('/')}"
        try:
            unpack_object(self._ctx.as_role(self._role_arn, SESSION), uri, part, "model data")
        except StartFailed as error:
            bucket, _, key = uri.removeprefix("s3://").partition("/")
            if "Failed to extract" in str(error):
                raise ServiceError("ValidationError", str(error), 400) from error
            raise ServiceError(
                "ValidationError",
                f"Failed to download model data(bucket: {bucket}, key: {key}). Please ensure that there is an object located at the URL "
                "and that the role passed to CreateModel has permissions to download the model.",
                400,
            ) from error
        part.rename(place)


def _head(method: str, path: str, length: int) -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: model\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n".encode()
