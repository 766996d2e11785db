"""`import smdistributed.dataparallel.torch.torch_smddp`, then `dist.init_process_group(backend="smddp")`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist


def _group(store: Any, rank: int, size: int, timeout: timedelta) -> Any:
    if torch.cuda.is_available():
        return dist.ProcessGroupNCCL(store, rank, size, timeout)  # type: ignore[attr-defined]
    return dist.ProcessGroupGloo(store, rank, size, timeout)  # type: ignore[attr-defined]


if not hasattr(dist.Backend, "SMDDP"):
    dist.Backend.register_backend("smddp", _group, devices=["cuda"] if torch.cuda.is_available() else ["cpu"])
    print("The backend smddp is PyTorch's own here: nccl on GPUs, gloo on CPUs.", flush=True)
