"""What the algorithms on torch share: the device, optimisers by AWS's names, early stopping, checkpoints, and models on disk.

A model is two files: `model.json` (what it takes to build the network again) and `model.pt` (its numbers, read without running any code).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn


def device() -> torch.device:
    """The GPU when torch sees one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def describe_device() -> str:
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} GPU(s): {torch.cuda.get_device_name(0)}"
    return f"CPU, {torch.get_num_threads()} threads"


def one_thread() -> None:
    """For networks whose steps are small: two threads that meet after every small step wait for each other more than they work."""
    torch.set_num_threads(1)


def seed(number: int = 0) -> None:
    """Two runs of one job give one model."""
    torch.manual_seed(number)


# -- optimisers -----------------------------------------------------------------------------------------------------------


def optimizer_for(name: str, parameters: Iterable[Any], learning_rate: float, **more: float) -> torch.optim.Optimizer:
    """The optimiser of a name that AWS uses; `more`: momentum, weight_decay, beta_1, beta_2, eps, gamma (rmsprop's decay)."""
    decay, momentum = more.get("weight_decay", 0.0), more.get("momentum", 0.0)
    eps, gamma = more.get("eps", 1e-8), more.get("gamma", 0.9)
    makers: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "sgd": lambda: torch.optim.SGD(parameters, learning_rate, momentum=momentum, weight_decay=decay),
        "nag": lambda: torch.optim.SGD(parameters, learning_rate, momentum=momentum or 0.9, weight_decay=decay, nesterov=True),
        "adam": lambda: torch.optim.Adam(
            parameters, learning_rate, betas=(more.get("beta_1", 0.9), more.get("beta_2", 0.999)), eps=eps, weight_decay=decay
        ),
        "rmsprop": lambda: torch.optim.RMSprop(parameters, learning_rate, alpha=gamma, eps=eps, weight_decay=decay),
        "adagrad": lambda: torch.optim.Adagrad(parameters, learning_rate, weight_decay=decay),
        # As MXNet's, AdaDelta finds its own pace: whatever learning_rate says is where it starts from.
        "adadelta": lambda: torch.optim.Adadelta(_paced(parameters, 1 / learning_rate), 1.0, rho=0.9, eps=1e-5, weight_decay=decay),
    }
    return makers[name]()


def _paced(parameters: Iterable[Any], scale: float) -> list[dict[str, Any]]:
    return [{"params": list(parameters), "scale": scale}]


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The new rate, in proportion for groups that started with another."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("scale", 1.0)


def stepped_rate(base: float, factor: float, steps: Sequence[int], epoch: int) -> float:
    """lr_scheduler_step "10,20" with lr_scheduler_factor: times the factor at each of these epochs."""
    return float(base * factor ** sum(epoch >= step for step in steps))


def epochs_of(text: str) -> list[int]:
    """'10, 20' -> [10, 20]"""
    return sorted(int(part) for part in text.replace(",", " ").split())


# -- early stopping -------------------------------------------------------------------------------------------------------


@dataclass
class EarlyStopping:
    """Says when a score (higher is better) has not risen by more than `tolerance` (a share of the best) for `patience` epochs."""

    patience: int
    tolerance: float = 0.0
    min_epochs: int = 0
    is_on: bool = True
    best: float = field(default=float("-inf"))
    _waited: int = 0

    def is_over(self, epoch: int, score: float) -> bool:
        """`epoch` counts from 0."""
        if score > self.best + abs(self.best if self.best > float("-inf") else 0.0) * self.tolerance:
            self.best, self._waited = score, 0
        else:
            self._waited += 1
        return self.is_on and epoch + 1 >= self.min_epochs and self._waited >= self.patience


# -- models on disk -------------------------------------------------------------------------------------------------------


def save(folder: Path, config: Mapping[str, Any], module: nn.Module) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.json").write_text(json.dumps(dict(config), indent=1))
    torch.save({name: value.cpu() for name, value in module.state_dict().items()}, folder / "model.pt")


def read_config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "model.json").read_text())
    return config


def read_state(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(folder / "model.pt", map_location="cpu", weights_only=True)
    return state


# -- checkpoints ----------------------------------------------------------------------------------------------------------


class Checkpoints:
    """One file in /opt/ml/checkpoints with everything a run needs to go on; written so that a kill leaves the old or the new one."""

    def __init__(self, folder: Path | None) -> None:
        """None: the request has no CheckpointConfig."""
        self._path = folder / "checkpoint.pt" if folder is not None else None

    def save(self, epoch: int, module: nn.Module, optimizer: torch.optim.Optimizer, **more: float) -> None:
        """After an epoch (from 0) has ended."""
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        torch.save({"epoch": epoch, "model": module.state_dict(), "optimizer": optimizer.state_dict(), "more": more}, fresh)
        os.replace(fresh, self._path)

    def restore(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, dict[str, float]]:
        """The epoch to go on with, and what was kept with it; (0, {}) when there is nothing."""
        if self._path is None or not self._path.is_file():
            return 0, {}
        state = torch.load(self._path, map_location=device(), weights_only=True)
        module.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        return int(state["epoch"]) + 1, dict(state["more"])


# -- several hosts -------------------------------------------------------------------------------------------------------


def average_gradients(run: Any, network: nn.Module) -> None:
    """Hosts that train together take one step together."""
    if not run.cluster.is_many:
        return
    grads = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    flat = torch.cat([grad.reshape(-1) for grad in grads]).cpu().numpy()
    total = torch.from_numpy(run.cluster.sum(flat)) / run.cluster.size
    at = 0
    for grad in grads:
        grad.copy_(total[at : at + grad.numel()].view_as(grad))
        at += grad.numel()


def agreed_steps(run: Any, steps: int) -> int:
    """Every host takes as many steps an epoch as the one with the fewest: a step needs all of them."""
    found = run.cluster.gather(steps)
    return int(run.cluster.broadcast(min(found) if found is not None else None))


def agreed_score(run: Any, score: float) -> float:
    """The hosts' mean, so that all of them stop early, or none."""
    return float(run.cluster.sum(score)) / run.cluster.size


def has_stopped(run: Any) -> bool:
    """Any host was told to stop: all stop after the same step."""
    return bool(run.cluster.sum(int(run.is_stopping)))
