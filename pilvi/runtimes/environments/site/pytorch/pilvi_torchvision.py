"""torchvision without its compiled part, which is made for CUDA: what needs it is declared, and done in Python.

Its `.pth` file imports this at every start of the interpreter, so nothing is done until somebody imports torchvision.
"""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

_libraries: list[Any] = []
"""A library's operators live as long as it does."""


class Finder:
    """Declares the operators before torchvision is imported; lets its functions use them."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> Any:
        if name == "torchvision" and not _libraries:
            _declare()
        if name != "torchvision.extension":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_allow(module: ModuleType) -> None:
                execute(module)
                if not module._has_ops():  # type: ignore[attr-defined]
                    module._assert_has_ops = lambda: None  # type: ignore[attr-defined]

            spec.loader.exec_module = execute_and_allow  # type: ignore[method-assign]
        return spec


def _declare() -> None:
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.impl("nms", _nms, "CPU")
    _libraries.append(library)


def _nms(boxes: Any, scores: Any, iou_threshold: float) -> Any:
    """Non-maximum suppression: the boxes to keep, best first."""
    import torch

    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    order, kept = scores.argsort(descending=True, stable=True), []
    while order.numel():
        best, order = order[0], order[1:]
        kept.append(best)
        corner = torch.maximum(boxes[best, :2], boxes[order, :2]), torch.minimum(boxes[best, 2:], boxes[order, 2:])
        common = (corner[1] - corner[0]).clamp(min=0).prod(dim=1)
        order = order[common / (area[best] + area[order] - common) <= iou_threshold]
    return torch.stack(kept) if kept else torch.empty(0, dtype=torch.int64)


sys.meta_path.insert(0, Finder)  # type: ignore[arg-type]
