"""Where this process stands: its rank, the parameters of the job, and the groups of ranks that work together.

Ranks come from whoever launched them: mpirun, torchrun, or nobody, when every host of the job is one rank. A rank is the place
(dp_rank, pp_rank): which replica of the model it works for, and which part of it it holds.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist

_NUMBERS = {"partitions": "pipeline_parallel_degree", "pipeline_parallel_degree": "pipeline_parallel_degree"}
_KNOWN = {
    "microbatches", "pipeline", "placement_strategy", "optimize", "auto_partition", "default_partition", "ddp", "horovod", "contiguous",
    "load_partition", "prescaled_batch", "memory_weight", "active_microbatches", "ddp_port", "ddp_dist_backend", "skip_tracing",
    "delayed_parameter_initialization", "_placement_strategy",
}  # fmt: skip
_NOT_BUILT = {
    "tensor_parallel_degree": (1, 0),
    "sharded_data_parallel_degree": (1, 0),
    "fp16": (False,),
    "bf16": (False,),
    "fp16_params": (False,),
    "shard_optimizer_state": (False,),
    "offload_activations": (False,),
}
"""Setting -> the values that change nothing."""


class SMPError(RuntimeError):
    """The base of what this library complains of."""


class SMPConfigError(SMPError):
    pass


class SMPValidationError(SMPError):
    pass


@dataclass
class State:
    rank: int
    size: int
    local_rank: int
    local_size: int
    pp_rank: int
    pp_size: int
    dp_rank: int
    dp_size: int
    microbatches: int
    pipeline: str
    is_automatic: bool
    default_partition: int
    pp_group: Any = None
    dp_group: Any = None
    pp_ranks: list[int] = field(default_factory=list)
    dp_ranks: list[int] = field(default_factory=list)


_state: State | None = None


def state() -> State:
    if _state is None:
        raise SMPValidationError("Call smp.init() before anything else of smdistributed.modelparallel.")
    return _state


def is_initialized() -> bool:
    return _state is not None


def init(config: dict[str, Any] | None = None) -> None:
    """Join the other ranks and find this one's place. config: as `parameters` of the SDK's distribution; default: the job's own."""
    global _state
    if _state is not None:
        return
    rank, size, local_rank, local_size = _launched()
    given = dict(config) if config is not None else json.loads(os.environ.get("SM_HP_MP_PARAMETERS") or "{}")
    settings = _checked(given, size, rank)
    if not dist.is_initialized():
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(local_rank)}
        os.environ.setdefault("MASTER_ADDR", "localhost")
        os.environ.setdefault("MASTER_PORT", "7777")
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    _state = _place(rank, size, local_rank, local_size, settings)
    if rank == 0:
        print(f"smdistributed.modelparallel: {size} ranks, {_state.pp_size} partitions, {_state.dp_size} replicas.", flush=True)


def _launched() -> tuple[int, int, int, int]:
    """(rank, size, local rank, local size)"""
    env = os.environ
    if "OMPI_COMM_WORLD_RANK" in env:
        names = ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE")
        rank, size, local_rank, local_size = (int(env[name]) for name in names)
    elif "RANK" in env and "WORLD_SIZE" in env:
        rank, size = int(env["RANK"]), int(env["WORLD_SIZE"])
        local_rank, local_size = int(env.get("LOCAL_RANK", 0)), int(env.get("LOCAL_WORLD_SIZE", 1))
    else:
        hosts = json.loads(env.get("SM_HOSTS", "[]"))
        rank = hosts.index(env["SM_CURRENT_HOST"]) if hosts else 0
        size, local_rank, local_size = max(len(hosts), 1), 0, 1
        if rank == 0 and size > 1:
            print(f"No launcher was asked for: each of the {size} hosts is one rank of the model.", flush=True)
    return rank, size, local_rank, local_size


def _checked(given: dict[str, Any], size: int, rank: int) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for name, value in given.items():
        if name in _NOT_BUILT:
            if value not in (None, *_NOT_BUILT[name]):
                raise SMPConfigError(f"The model parallel setting {name}={value} is not supported by this server yet.")
        elif name in _NUMBERS or name in _KNOWN:
            settings[_NUMBERS.get(name, name)] = value
        elif rank == 0:
            print(f"WARNING: the model parallel setting {name} is not known here and changes nothing.", flush=True)
    if "pipeline_parallel_degree" not in settings:
        settings["pipeline_parallel_degree"] = 1 if size == 1 else 2 if size % 2 == 0 else size
        if rank == 0 and size > 1:
            print(
                "WARNING: the job carries no model parallel parameters. They come with distribution={'smdistributed': {'modelparallel': "
                "{'enabled': True, 'parameters': {...}}}}; the SDK sends nothing for a key model_parallel. "
                f"Going on with {settings['pipeline_parallel_degree']} partitions.",
                flush=True,
            )
    partitions = int(settings["pipeline_parallel_degree"])
    if partitions < 1 or size % partitions:
        raise SMPConfigError(
            f"{size} ranks cannot hold a model of {partitions} partitions: the number of ranks must be a multiple of it."
        )
    if settings.get("pipeline", "interleaved") not in ("simple", "interleaved", "_only_forward"):
        raise SMPConfigError(f"There is no pipeline {settings['pipeline']}: it is simple or interleaved.")
    return settings


def _place(rank: int, size: int, local_rank: int, local_size: int, settings: dict[str, Any]) -> State:
    """cluster: the parts of one replica are neighbours; spread: parts are far from each other, as are instances."""
    pp, dp = int(settings["pipeline_parallel_degree"]), size // int(settings["pipeline_parallel_degree"])
    order = str(settings.get("placement_strategy", "cluster"))
    order = {"cluster": "DPT", "spread": "TPD"}.get(order, order)
    if sorted(order) != ["D", "P", "T"]:
        raise SMPConfigError(
            f"There is no placement strategy {order}: it is cluster, spread, or an order of the letters D, P and T."
        )
    are_parts_near = order.index("P") > order.index("D")

    def place(number: int) -> tuple[int, int]:
        return (number // pp, number % pp) if are_parts_near else (number % dp, number // dp)

    places = {number: place(number) for number in range(size)}
    dp_rank, pp_rank = places[rank]
    microbatches = int(settings.get("microbatches", 1))
    if microbatches < 1:
        raise SMPConfigError("microbatches must be at least 1.")
    found = State(
        rank, size, local_rank, local_size, pp_rank, pp, dp_rank, dp, microbatches, str(settings.get("pipeline", "interleaved")),
        bool(settings.get("auto_partition", True)), int(settings.get("default_partition") or 0),
    )  # fmt: skip
    # Every rank has to take part in the making of every group.
    for replica in range(dp):
        ranks = sorted((number for number in range(size) if places[number][0] == replica), key=lambda number: places[number][1])
        group = dist.new_group(ranks)
        if replica == dp_rank:
            found.pp_group, found.pp_ranks = group, ranks
    for part in range(pp):
        ranks = sorted((number for number in range(size) if places[number][1] == part), key=lambda number: places[number][0])
        group = dist.new_group(ranks)
        if part == pp_rank:
            found.dp_group, found.dp_ranks = group, ranks
    return found
