"""The user's model as one rank's part of it, and the optimizer that knows only that part."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from smdistributed.modelparallel.torch import partition
from smdistributed.modelparallel.torch.state import SMPValidationError, state
from torch import nn


@contextmanager
def delay_param_initialization(enabled: bool = True) -> Iterator[None]:
    """A model built inside has no values yet: every rank makes those of its own part, so that no process ever holds the whole."""
    if not enabled:
        yield
        return
    with torch.device("meta"):
        yield


class DistributedModel(nn.Module):
    """A model whose parts are on the ranks of a replica. It is called inside functions that smp.step decorates."""

    def __init__(
        self,
        module: nn.Module,
        trace_device: str = "cpu",
        average_grads_across_microbatches: bool = True,
        **ignored: Any,
    ) -> None:
        super().__init__()
        del trace_device
        if state().rank == 0 and ignored:
            print(f"smdistributed.modelparallel: DistributedModel's {', '.join(sorted(ignored))} change nothing here.", flush=True)
        self.module = module
        self.averages_microbatches = average_grads_across_microbatches
        self.split: partition.Split | None = None
        self.replaced: dict[int, nn.Parameter] = {}
        self._sizes: list[int] = []
        self._shared_shapes: list[torch.Size] = []
        self._waiting_state: dict[str, Any] | None = None
        self._role: Any = None
        _models.append(self)
        if state().pp_size == 1:
            self._settle()

    # -- inside a step ------------------------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self._role is not None:
            return self._role.call(*args, **kwargs)
        if state().pp_size == 1:
            return self.module(*args, **kwargs)
        raise SMPValidationError("A partitioned model can only be called inside a function decorated with @smp.step.")

    def backward(self, loss: torch.Tensor, **kwargs: Any) -> None:
        """Instead of loss.backward(): gradients are of the whole batch."""
        count = state().microbatches if self.averages_microbatches else 1
        if self._role is not None:
            self._role.has_backward = True
        (loss / count).backward(**kwargs)

    @property
    def partitions(self) -> partition.Split:
        if self.split is None:
            raise SMPValidationError("The model is partitioned at the first call of a function decorated with @smp.step.")
        return self.split

    def divide(self, given: list[str]) -> None:
        """Trace and cut the model; let go of what other ranks hold."""
        if self.split is not None:
            return
        self.split = partition.split(self.module, given)
        self._sizes = [sum(parameter.numel() for parameter in part) for part in self.split.parameters]
        self._shared_shapes = [parameter.shape for parameter in self.split.shared]
        self._settle()

    def _settle(self) -> None:
        self._make_values()
        if self.split is not None:
            own = {id(parameter) for parameter in self.local_parameters()}
            for parameter in self.module.parameters():
                if id(parameter) not in own and not parameter.is_meta:
                    parameter.data = torch.empty(0)
                    parameter.grad = None
            self._report()
        if self._waiting_state is not None:
            self.load_state_dict(self._waiting_state)
            self._waiting_state = None
        for tensor in (*self.local_parameters(), *self.local_buffers()):
            if state().dp_size > 1:
                dist.broadcast(tensor.data, state().dp_ranks[0], group=state().dp_group)

    def _make_values(self) -> None:
        """Values of what was built without (delay_param_initialization), on this rank's part."""
        if not any(parameter.is_meta for parameter in self.module.parameters()):
            return
        own = None if self.split is None else set(self.split.names[state().pp_rank])
        before = dict(self.module.named_parameters(remove_duplicate=False))
        for prefix, module in self.module.named_modules():
            names = [
                f"{prefix}.{name}" if prefix else name
                for name, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
            ]
            if names and (own is None or any(name in own for name in names)):
                module.to_empty(device="cpu", recurse=False)
                reset = getattr(module, "reset_parameters", None)
                if reset is None:
                    raise SMPValidationError(
                        f"{type(module).__name__} has no reset_parameters(), so its values cannot be made later."
                    )
                reset()
        now = dict(self.module.named_parameters(remove_duplicate=False))
        self.replaced = {id(old): now[name] for name, old in before.items() if now[name] is not old}
        if self.split is not None:
            for own_parameters in (*self.split.parameters, self.split.shared):
                own_parameters[:] = [self.replaced.get(id(parameter), parameter) for parameter in own_parameters]

    def _report(self) -> None:
        """What every part holds, once."""
        if state().rank != 0 or self.split is None:
            return
        sizes = self._sizes
        for part, names in enumerate(self.split.names):
            modules = list(dict.fromkeys(name.rsplit(".", 1)[0] for name in names))
            shown = ", ".join(modules[:8]) + (", ..." if len(modules) > 8 else "")
            share = 100 * sizes[part] / max(sum(sizes), 1)
            print(
                f"Partition {part} on rank {state().pp_ranks[part]}: {sizes[part]} parameters ({share:.1f} %): {shown}", flush=True
            )

    # -- state --------------------------------------------------------------------------------------------------------

    def local_parameters(self) -> list[nn.Parameter]:
        return list(self.module.parameters()) if self.split is None else self.split.parameters[state().pp_rank]

    def local_buffers(self) -> list[torch.Tensor]:
        if self.split is None:
            return list(self.module.buffers())
        own = set(self.split.names[state().pp_rank])
        return [buffer for name, buffer in self.module.named_buffers() if name in own]

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """This rank's, once the model is partitioned; before that, all."""
        del recurse
        return iter(self.local_parameters())

    def local_state_dict(self) -> dict[str, Any]:
        full = self.module.state_dict()
        return (
            dict(full) if self.split is None else {name: full[name] for name in self.split.names[state().pp_rank] if name in full}
        )

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The whole model's, on every rank of a replica: all of them have to call."""
        del args, kwargs
        own = {name: tensor.detach().cpu() for name, tensor in self.local_state_dict().items()}
        if state().pp_size == 1 or self.split is None:
            return own
        parts: list[Any] = [None] * state().pp_size
        dist.all_gather_object(parts, own, group=state().pp_group)
        found = {name: tensor for part in parts for name, tensor in part.items()}
        return {name: found[name] for name in self.module.state_dict() if name in found}

    def load_state_dict(self, given: Any, strict: bool = True, assign: bool = False) -> Any:
        """The whole model's state or this part's; before the partition it waits for it."""
        del assign
        if state().pp_size > 1 and self.split is None:
            self._waiting_state = dict(given)
            return None
        own = self.local_state_dict()
        if strict and (missing := sorted(set(own) - set(given))):
            raise RuntimeError(f"Missing keys in the model's state: {', '.join(missing)}")
        with torch.no_grad():
            for name, tensor in own.items():
                if name in given:
                    tensor.copy_(given[name])
        return None

    # -- after a step -------------------------------------------------------------------------------------------------

    def join_gradients(self) -> None:
        """Sum what several parts share; average over the replicas, all in one message."""
        if self.split is not None:
            own = {id(parameter) for parameter in self.local_parameters()}
            for parameter, shape in zip(self.split.shared, self._shared_shapes, strict=True):
                mine = parameter.grad if id(parameter) in own and parameter.grad is not None else torch.zeros(shape)
                dist.all_reduce(mine, group=state().pp_group)
                if id(parameter) in own:
                    parameter.grad = mine
        if state().dp_size == 1:
            return
        parameters = [parameter for parameter in self.local_parameters() if parameter.requires_grad]
        if not parameters:
            return
        gradients = [torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in parameters]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat, group=state().dp_group)
        flat /= state().dp_size
        for parameter, part in zip(parameters, flat.split([gradient.numel() for gradient in gradients]), strict=True):
            parameter.grad = part.view_as(parameter)


_models: list[DistributedModel] = []


def DistributedOptimizer(optimizer: torch.optim.Optimizer, **ignored: Any) -> torch.optim.Optimizer:  # noqa: N802 - the library's name
    """The same optimizer; from the partition on it holds this rank's parameters only."""
    del ignored

    def keep_own(*_: Any) -> None:
        models = [model for model in _models if model.split is not None]
        if not models:
            return
        held = {id(parameter) for model in models for parameter in model.local_parameters()}
        replaced = {old: new for model in models for old, new in model.replaced.items()}
        for group in optimizer.param_groups:
            current = [replaced.get(id(parameter), parameter) for parameter in group["params"]]
            group["params"] = [parameter for parameter in current if id(parameter) in held]

    optimizer.register_step_pre_hook(keep_own)
    optimizer.local_state_dict = optimizer.state_dict  # type: ignore[attr-defined]
    original = optimizer.zero_grad

    def zero_grad(set_to_none: bool = True) -> None:
        keep_own()
        original(set_to_none)

    optimizer.zero_grad = zero_grad  # type: ignore[method-assign]
    return optimizer
