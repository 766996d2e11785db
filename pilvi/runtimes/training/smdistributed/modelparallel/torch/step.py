"""@smp.step: one training step over microbatches, on all ranks of a replica at once.

The first part runs the user's function up to where it calls the model, which tells the model's arguments; the last part runs it with
what the model gives, to its end. Parts between only carry out their operations. All get what the function returns.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from smdistributed.modelparallel.torch.model import DistributedModel
from smdistributed.modelparallel.torch.pipeline import Wire, order
from smdistributed.modelparallel.torch.state import SMPValidationError, state


class StepOutput:
    """What a step's function returned, for every microbatch."""

    def __init__(self, outputs: list[Any]) -> None:
        self.outputs = outputs

    def __iter__(self) -> Any:
        return iter(self.outputs)

    def __len__(self) -> int:
        return len(self.outputs)

    def __getitem__(self, number: int) -> Any:
        return self.outputs[number]

    def reduce_mean(self) -> Any:
        return torch.stack([torch.as_tensor(output, dtype=torch.get_default_dtype()) for output in self.outputs]).mean(dim=0)

    def reduce_sum(self) -> Any:
        return torch.stack([torch.as_tensor(output) for output in self.outputs]).sum(dim=0)

    def concat(self) -> Any:
        return torch.cat(list(self.outputs), dim=0)

    def stack(self) -> Any:
        return torch.stack(list(self.outputs), dim=0)


def step(
    function: Callable[..., Any] | None = None, *, non_split_inputs: Iterable[str] = (), detach_outputs: bool = True, **ignored: Any
) -> Any:
    """Decorate a function that calls the model and its backward. non_split_inputs: arguments that every microbatch gets whole."""
    del ignored
    if function is None:
        return functools.partial(step, non_split_inputs=non_split_inputs, detach_outputs=detach_outputs)
    whole = frozenset(non_split_inputs)

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        model = next((value for value in (*args, *kwargs.values()) if isinstance(value, DistributedModel)), None)
        if model is None:
            raise SMPValidationError(f"{function.__name__} is a step and gets no smp.DistributedModel as an argument.")
        calls = _microbatches(function, args, kwargs, whole)
        outputs = _alone(model, function, calls) if state().pp_size == 1 else _Part(model, function, calls).run()
        if detach_outputs:
            outputs = [_map(output, lambda tensor: tensor.detach()) for output in outputs]
        return _gathered(outputs)

    return run


def _gathered(outputs: list[Any]) -> Any:
    """A function that returns several things gives several outputs."""
    if outputs and isinstance(outputs[0], tuple):
        return tuple(StepOutput([output[number] for output in outputs]) for number in range(len(outputs[0])))
    return StepOutput(outputs)


# -- microbatches ---------------------------------------------------------------------------------------------------------


def _microbatches(function: Callable[..., Any], args: Any, kwargs: Any, whole: frozenset[str]) -> list[inspect.BoundArguments]:
    count, signature = state().microbatches, inspect.signature(function)
    found = []
    for number in range(count):
        bound = signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            if name not in whole:
                bound.arguments[name] = _map(value, functools.partial(_slice, number=number, count=count))
        found.append(bound)
    return found


def _slice(tensor: torch.Tensor, number: int, count: int) -> torch.Tensor:
    if tensor.dim() == 0:
        return tensor
    if tensor.shape[0] % count:
        raise SMPValidationError(f"A batch of {tensor.shape[0]} cannot be split into {count} microbatches of one size.")
    size = tensor.shape[0] // count
    return tensor[number * size : (number + 1) * size]


def _map(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The same nest of tuples, lists and dictionaries with every tensor changed."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _map(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(_map(item, change) for item in value)
    return value


def _alone(model: DistributedModel, function: Callable[..., Any], calls: list[inspect.BoundArguments]) -> list[Any]:
    """A replica of one part."""
    role = _Whole(model)
    model._role = role
    try:
        outputs = [function(*call.args, **call.kwargs) for call in calls]
    finally:
        model._role = None
    if role.has_backward:
        model.join_gradients()
    return outputs


# -- what calling the model does ------------------------------------------------------------------------------------------


class _Whole:
    def __init__(self, model: DistributedModel) -> None:
        self._model = model
        self.has_backward = False

    def call(self, *args: Any, **kwargs: Any) -> Any:
        return self._model.module(*args, **kwargs)


class _Captured(BaseException):
    """No error: the user's code must not catch it."""

    def __init__(self, args: Any, kwargs: Any) -> None:
        super().__init__()
        self.call = args, kwargs


class _First:
    """Tells what the model was called with."""

    has_backward = False

    def call(self, *args: Any, **kwargs: Any) -> Any:
        raise _Captured(args, kwargs)


class _Last:
    """Gives what the model computed."""

    def __init__(self, result: Any) -> None:
        self._result = result
        self._is_called = False
        self.has_backward = False

    def call(self, *args: Any, **kwargs: Any) -> Any:
        del args, kwargs
        if self._is_called:
            raise SMPValidationError("A step may call its model once.")
        self._is_called = True
        return self._result


class _Part:
    """One step on one rank."""

    def __init__(self, model: DistributedModel, function: Callable[..., Any], calls: list[inspect.BoundArguments]) -> None:
        self._model, self._function, self._calls = model, function, calls
        self._place = state()
        self._part, self._last = self._place.pp_rank, self._place.pp_size - 1
        self._before = Wire(self._place.pp_ranks[self._part - 1]) if self._part > 0 else None
        self._after = Wire(self._place.pp_ranks[self._part + 1]) if self._part < self._last else None
        self._under_way: dict[int, tuple[list[Any], list[Any]]] = {}
        self._outputs: list[Any] = []
        self._has_backward = torch.is_grad_enabled() and model.module.training
        self._device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")

    def run(self) -> list[Any]:
        self._divide()
        if self._part == self._last:
            for number in range(len(self._calls)):
                self._finish(number)
        else:
            is_simple = self._place.pipeline == "simple"
            for what, number in order(
                self._part, self._place.pp_size, len(self._calls), is_simple=is_simple, has_backward=self._has_backward
            ):
                self._forward(number) if what == "forward" else self._backward(number)
        for wire in (self._before, self._after):
            if wire is not None:
                wire.finish()
        if self._has_backward:
            self._model.join_gradients()
        return self._shared_outputs()

    def _divide(self) -> None:
        """The first step cuts the model: the first part knows how it is called and tells the others."""
        if self._model.split is not None:
            return
        told: list[Any] = [None]
        if self._part == 0:
            args, kwargs = self._captured(0)
            told = [list(inspect.signature(self._model.module.forward).bind(*args, **kwargs).arguments)]
        dist.broadcast_object_list(told, self._place.pp_ranks[0], group=self._place.pp_group)
        self._model.divide(told[0])
        self._model.module.to(self._device) if self._device.type == "cuda" else None

    def _captured(self, number: int) -> tuple[Any, Any]:
        """What the user's function calls the model with."""
        call, self._model._role = self._calls[number], _First()
        try:
            self._function(*call.args, **call.kwargs)
        except _Captured as captured:
            return captured.call
        finally:
            self._model._role = None
        raise SMPValidationError("A step has to call its model.")

    def _inputs(self, number: int) -> dict[Any, Any]:
        """Values by the graph's nodes."""
        split = self._model.partitions
        if self._before is not None:
            return dict(zip(split.wire(self._part - 1), self._before.receive(self._device), strict=True))
        args, kwargs = self._captured(number)
        bound = inspect.signature(self._model.module.forward).bind(*args, **kwargs)
        bound.apply_defaults()
        placeholders = [node for node in split.graph.graph.nodes if node.op == "placeholder"]
        return dict(zip(placeholders, bound.arguments.values(), strict=True))

    def _forward(self, number: int) -> None:
        assert self._after is not None
        split = self._model.partitions
        values = self._inputs(number)
        received = list(values.values())
        values = split.run(self._part, values)
        outgoing = [values[node] for node in split.wire(self._part)]
        self._after.send(outgoing)
        if self._has_backward:
            self._under_way[number] = received, outgoing

    def _backward(self, number: int) -> None:
        assert self._after is not None
        received, outgoing = self._under_way.pop(number)
        gradients = self._after.receive(self._device)
        pairs = [(value, gradient) for value, gradient in zip(outgoing, gradients, strict=True) if gradient is not None]
        if pairs:
            torch.autograd.backward([value for value, _ in pairs], [gradient for _, gradient in pairs])
        self._send_back(received)

    def _finish(self, number: int) -> None:
        """The last part: the rest of the user's function, its backward included."""
        split = self._model.partitions
        values = self._inputs(number)
        received = list(values.values())
        role = _Last(split.result(split.run(self._part, values)))
        call, self._model._role = self._calls[number], role
        try:
            self._outputs.append(self._function(*call.args, **call.kwargs))
        finally:
            self._model._role = None
        if self._has_backward:
            self._send_back(received)

    def _send_back(self, received: list[Any]) -> None:
        """Gradients of what came, where there are any."""
        if self._before is not None:
            self._before.send(
                [value.grad if isinstance(value, torch.Tensor) and value.requires_grad else None for value in received]
            )

    def _shared_outputs(self) -> list[Any]:
        shared: list[Any] = [[_map(output, lambda tensor: tensor.detach().cpu()) for output in self._outputs]]
        dist.broadcast_object_list(shared, self._place.pp_ranks[self._last], group=self._place.pp_group)
        return list(shared[0])
