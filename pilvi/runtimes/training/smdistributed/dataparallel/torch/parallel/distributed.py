"""PyTorch's DistributedDataParallel, under the first generation's name and with its further arguments."""

from __future__ import annotations

from typing import Any

import torch


class DistributedDataParallel(torch.nn.parallel.DistributedDataParallel):
    def __init__(self, module: torch.nn.Module, device_ids: Any = None, **kwargs: Any) -> None:
        super().__init__(module, device_ids=device_ids if torch.cuda.is_available() else None, **kwargs)
