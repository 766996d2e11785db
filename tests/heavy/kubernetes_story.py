"""Run by test_kubernetes.py under an interpreter that has the official client: manifests against the API's schema, calls against kmock.

Prints a JSON line for each chapter: {"chapter", "error"}.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import threading
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import kmock
from kubernetes import client

from pilvi.compute import Bind, ProcessSpec
from pilvi.compute.kubernetes import ClientApi, KubernetesCompute, Place, group_of, pod_manifest, service_manifest
from pilvi.core.errors import NotFound
from pilvi.testing.contracts.compute import Heard, eventually

SPEC = ProcessSpec(
    ("train",),
    {"A": "1", "EMPTY": ""},
    (Bind(Path("/data/jobs/x/root"), "/opt/ml", True), Bind(Path("/srv/run"), "/srv/run")),
    cwd="/opt/ml",
    hostname="algo-1",
    hosts={"other": "10.0.0.1"},
    memory_mib=8192,
    cpus=2,
    gpus=("0",),
)
PLACE = Place("ml", claim="data", node_selector={"pool": "gpu"})


def tell(chapter: str, work: Callable[[], None]) -> None:
    error = ""
    try:
        work()
    except Exception:  # noqa: BLE001 - it is told as the chapter's end
        error = traceback.format_exc()
    print(json.dumps({"chapter": chapter, "error": error}), flush=True)


def matches_schema(manifest: dict[str, Any], kind: str) -> None:
    """Read as the API's type and written again, nothing is lost: every field is known there, with its type."""
    api = client.ApiClient()
    found = api.deserialize(json.dumps(manifest), kind, "application/json")
    assert api.sanitize_for_serialization(found) == manifest


def manifests() -> None:
    matches_schema(pod_manifest("p", SPEC, PLACE, Path("/data"), "me"), "V1Pod")
    several = replace(SPEC, hosts={"algo-1": "127.0.0.2", "algo-2": "127.0.0.3"})
    matches_schema(pod_manifest("p", several, Place(), Path("/data"), "me"), "V1Pod")
    matches_schema(service_manifest(group_of(several), PLACE, "me"), "V1Service")


class Server(threading.Thread):
    """kmock's emulator, on a loop of its own."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.ready = threading.Event()
        self.ending: asyncio.Event
        self.loop: asyncio.AbstractEventLoop
        self.url = ""
        self.handler: Any = None

    def run(self) -> None:
        asyncio.run(self.serve())

    async def serve(self) -> None:
        self.loop, self.ending = asyncio.get_running_loop(), asyncio.Event()
        async with kmock.KubernetesEmulator() as self.handler, kmock.Server(self.handler) as server:
            for name, kind in (("pods", "Pod"), ("services", "Service")):
                resource = kmock.resource("", "v1", name)
                self.handler.resources[resource].kind = kind
                self.handler.resources[resource].namespaced = True
                self.handler.resources[resource].verbs = {"create", "get", "list", "delete", "patch", "watch"}
            self.url = str(server.url)
            self.ready.set()
            await self.ending.wait()


def calls() -> None:
    server = Server()
    server.start()
    assert server.ready.wait(30)
    configuration = client.Configuration(host=server.url.rstrip("/"))
    api = ClientApi("ml", client.ApiClient(configuration).configuration)
    pod = pod_manifest("p", replace(SPEC, gpus=()), PLACE, Path("/data"), "me")
    api.create(pod)
    api.create(service_manifest("g", PLACE, "me"))
    assert api.pod("p")["spec"]["hostname"] == "algo-1"
    assert "p" in api.pods("pilvi/server=me")
    api.delete("Service", "g", 0)
    api.delete("Pod", "p", 0)
    try:
        api.pod("p")
    except NotFound:
        pass
    else:
        raise AssertionError("it is still there")
    compute = KubernetesCompute(api, PLACE, Path(tempfile.mkdtemp()))
    process = compute.launch(SPEC, Heard())
    eventually(lambda: len(api.pods(f"pilvi/server={compute.server}")) == 1)
    process.kill()
    ended = process.wait(30)
    assert ended is not None
    assert ended.reason == "stopped"
    compute.close()
    server.loop.call_soon_threadsafe(server.ending.set)
    server.join()


if __name__ == "__main__":
    tell("manifests_are_what_the_api_knows", manifests)
    tell("the_official_client_makes_and_ends_pods", calls)
