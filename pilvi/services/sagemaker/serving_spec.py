"""A model's container as a program to run: pure data from a model's record, a variant and the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pilvi.compute import Bind, Node
from pilvi.services.sagemaker.instance_types import instance_type
from pilvi.services.sagemaker.model import containers_of
from pilvi.services.sagemaker.serving_files import CODE, MODEL
from pilvi.services.sagemaker.serving_image import Serving, serving_for
from pilvi.serving.server import ServerSpec

_START_S = 240.0


@dataclass(frozen=True, slots=True)
class Room:
    """What one instance may use of this machine."""

    cpus: int | None
    memory_mib: int | None
    gpus: tuple[str, ...] | None
    label: str


def room_of(variant: Mapping[str, Any], node: Node | None) -> Room:
    """As much of the instance type, or of a serverless variant's memory, as the machine has."""
    if (serverless := variant.get("ServerlessConfig")) is not None:
        memory = int(serverless["MemorySizeInMB"])
        # Source: developer guide, "Deploy models with Amazon SageMaker Serverless Inference": vCPUs follow the memory.
        cpus = max(1, memory // 2048)
        return Room(min(cpus, node.cpus) if node else None, min(memory, node.memory_mib) if node else memory, (), "serverless")
    kind = instance_type(variant["InstanceType"])
    if node is None:
        return Room(None, None, None, kind.name)
    gpus = tuple(gpu.id for gpu in node.gpus[: kind.gpus])
    return Room(min(kind.vcpus, node.cpus), min(int(kind.memory_gib * 1024), node.memory_mib), gpus, kind.name)


def names_of(model: Mapping[str, Any]) -> list[str]:
    """What messages call a model's containers: their host names, else primary or container-1, container-2."""
    containers = containers_of(model)
    if len(containers) == 1:
        return [containers[0].get("ContainerHostname") or "primary"]
    return [one.get("ContainerHostname") or f"container-{number}" for number, one in enumerate(containers, 1)]


def server_spec(
    account: str,
    region: str,
    container: Mapping[str, Any],
    name: str,
    room: Room,
    variant: Mapping[str, Any],
    *,
    binds: Sequence[Bind],
    is_isolated: bool,
    secrets: Mapping[str, str],
    timeout_s: int = 60,
    more: Mapping[str, str] | None = None,
) -> ServerSpec:
    given = dict(container.get("Environment") or {})
    serving = serving_for(container["Image"], given, account=account)
    command = serving.command
    if container.get("Mode") == "MultiModel" and not serving.image:
        command = (*command[:3], "models", *([] if serving.is_script else command[4:]))
    workers = workers_of(given, room, container)
    env = {
        "AWS_REGION": region,
        "SAGEMAKER_REGION": region,
        "PILVI_MODEL_DIR": MODEL,
        "PILVI_CODE_DIR": CODE,
        "PILVI_SERVING_FRAMEWORK": serving.framework,
        # The caller has heard by then, and the worker is free for others.
        "PILVI_SERVING_TIMEOUT_S": str(timeout_s + 1),
        "OMP_NUM_THREADS": str(max(1, (room.cpus or 1) // workers)),
        **(more or {}),
        **given,
    }
    if container.get("Mode") == "MultiModel":
        env["SAGEMAKER_MULTI_MODEL"] = "true"
    if room.gpus == ():
        env.setdefault("CUDA_VISIBLE_DEVICES", "")
    elif room.gpus:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(room.gpus)
    return ServerSpec(
        name=name,
        command=command,
        env=env,
        runtime=serving.environment,
        image=serving.image,
        support=serving.support,
        binds=tuple(binds),
        most=workers,
        cpus=room.cpus,
        memory_mib=room.memory_mib,
        gpus=room.gpus,
        network=not is_isolated,
        start_s=float(variant.get("ContainerStartupHealthCheckTimeoutInSeconds") or _START_S),
        secrets=secrets,
    )


def workers_of(environment: Mapping[str, str], room: Room, container: Mapping[str, Any]) -> int:
    """Requests that are worked on at once: what the model's owner says, else one a core; multi-model programs are one process."""
    said = environment.get("SAGEMAKER_MODEL_SERVER_WORKERS", "")
    if said.isdecimal() and int(said) > 0:
        return int(said)
    return 1 if container.get("Mode") == "MultiModel" or room.label == "serverless" else max(1, room.cpus or 1)


def serving_of(account: str, container: Mapping[str, Any]) -> Serving:
    return serving_for(container["Image"], container.get("Environment") or {}, account=account)
