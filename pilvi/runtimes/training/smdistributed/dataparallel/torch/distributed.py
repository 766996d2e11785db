"""The first generation's `import smdistributed.dataparallel.torch.distributed as dist`: torch.distributed under its name."""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed
from torch.distributed import *  # noqa: F403


def init_process_group(backend: str = "smddp", **kwargs: Any) -> None:
    """The backend is PyTorch's own whatever is asked for; addresses are what the launcher says."""
    del backend
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo", **kwargs)


def get_local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", 0))


def get_num_nodes() -> int:
    return int(os.environ.get("GROUP_WORLD_SIZE", 1))
