"""`import smdistributed.modelparallel.torch as smp`: the first generation's interface, on torch.distributed and torch.fx.

    smp.init()                                        which rank this is, which part it holds            state
    model = smp.DistributedModel(Net())               cut at the first step, parameters about halved     partition, model
    optimizer = smp.DistributedOptimizer(Adam(...))
    @smp.step                                         microbatches through the parts                     step, pipeline
    def train_step(model, data, target): ...; model.backward(loss); return loss

Differs: tensor parallelism, sharded optimizer states, half precision and the second generation (torch.sagemaker) are refused.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import torch.distributed as dist
from smdistributed.modelparallel.torch.checkpoint import load, resume_from_checkpoint, save, save_checkpoint
from smdistributed.modelparallel.torch.model import DistributedModel, DistributedOptimizer, delay_param_initialization
from smdistributed.modelparallel.torch.partition import partition, set_partition
from smdistributed.modelparallel.torch.state import SMPConfigError, SMPError, SMPValidationError, init, is_initialized, state
from smdistributed.modelparallel.torch.step import StepOutput, step

__all__ = [
    "DP_GROUP", "MP_GROUP", "PP_GROUP", "RDP_GROUP", "TP_GROUP", "WORLD", "CommGroup", "DistributedModel", "DistributedOptimizer", "SMPConfigError",
    "SMPError", "SMPValidationError", "StepOutput", "allgather", "barrier", "broadcast", "delay_param_initialization", "dp_barrier", "dp_rank",
    "dp_size", "get_dp_group", "get_mp_group", "get_pp_group", "get_world_group", "init", "is_initialized", "load", "local_rank", "local_size",
    "mp_barrier", "mp_rank", "mp_size", "num_microbatches", "partition", "pp_barrier", "pp_rank", "pp_size", "rank", "rdp_rank", "rdp_size",
    "resume_from_checkpoint", "save", "save_checkpoint", "set_partition", "shutdown", "size", "step", "tp_rank", "tp_size",
]  # fmt: skip


class CommGroup(Enum):
    WORLD = "world"
    PP_GROUP = "pp"
    DP_GROUP = "dp"
    TP_GROUP = "tp"
    RDP_GROUP = "rdp"
    MP_GROUP = "mp"


WORLD, PP_GROUP, DP_GROUP = CommGroup.WORLD, CommGroup.PP_GROUP, CommGroup.DP_GROUP
TP_GROUP, RDP_GROUP, MP_GROUP = CommGroup.TP_GROUP, CommGroup.RDP_GROUP, CommGroup.MP_GROUP


def rank() -> int:
    return state().rank


def size() -> int:
    return state().size


def local_rank() -> int:
    return state().local_rank


def local_size() -> int:
    return state().local_size


def pp_rank() -> int:
    return state().pp_rank


def pp_size() -> int:
    return state().pp_size


def dp_rank() -> int:
    return state().dp_rank


def dp_size() -> int:
    return state().dp_size


def tp_rank() -> int:
    """There is no tensor parallelism, so everybody is the first."""
    return 0


def tp_size() -> int:
    return 1


# Without tensor parallelism, the model's ranks are the parts, and replicas of a part are replicas of the model.
mp_rank, mp_size, rdp_rank, rdp_size = pp_rank, pp_size, dp_rank, dp_size


def num_microbatches() -> int:
    return state().microbatches


def get_world_group() -> list[int]:
    return list(range(state().size))


def get_pp_group() -> list[int]:
    return list(state().pp_ranks)


def get_dp_group() -> list[int]:
    return list(state().dp_ranks)


get_mp_group = get_pp_group


def _group(which: CommGroup) -> tuple[Any, list[int]]:
    if which in (PP_GROUP, MP_GROUP):
        return state().pp_group, state().pp_ranks
    if which in (DP_GROUP, RDP_GROUP):
        return state().dp_group, state().dp_ranks
    if which is TP_GROUP:
        raise SMPValidationError("There is no tensor parallelism, so there is no such group.")
    return None, get_world_group()


def barrier(group: CommGroup = WORLD) -> None:
    dist.barrier(group=_group(group)[0])


def pp_barrier() -> None:
    barrier(PP_GROUP)


def dp_barrier() -> None:
    barrier(DP_GROUP)


mp_barrier = pp_barrier


def broadcast(obj: Any, group: CommGroup = WORLD) -> Any:
    """What the group's first rank gives, for all."""
    process_group, ranks = _group(group)
    told = [obj]
    dist.broadcast_object_list(told, ranks[0], group=process_group)
    return told[0]


def allgather(obj: Any, group: CommGroup = WORLD) -> list[Any]:
    process_group, ranks = _group(group)
    found: list[Any] = [None] * len(ranks)
    dist.all_gather_object(found, obj, group=process_group)
    return found


def shutdown() -> None:
    """Leave together: connections that one side closes early end the other."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
