"""Which part of a model every rank holds: the model's operations in their order, cut where the parameters are about halved.

The order comes from tracing (torch.fx). A value that a later part needs travels through all parts between.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from smdistributed.modelparallel.torch.state import SMPValidationError, state
from torch import fx, nn

_ATTRIBUTE = "_smp_partition"
_chosen: list[int] = []


@contextmanager
def partition(number: int) -> Iterator[None]:
    """`with smp.partition(i):` what is built inside belongs to part i."""
    _check_number(number)
    _chosen.append(number)
    original = nn.Module.__init__

    def init(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        object.__setattr__(self, _ATTRIBUTE, _chosen[-1])

    nn.Module.__init__ = init  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.__init__ = original  # type: ignore[method-assign]
        _chosen.pop()


def set_partition(module: nn.Module, number: int) -> None:
    _check_number(number)
    for each in module.modules():
        object.__setattr__(each, _ATTRIBUTE, number)


def _check_number(number: int) -> None:
    if not 0 <= number < state().pp_size:
        raise SMPValidationError(f"There is no partition {number}: the model has {state().pp_size}.")


@dataclass
class Split:
    """A traced model, cut."""

    graph: fx.GraphModule
    part_of: dict[fx.Node, int]
    parameters: list[list[nn.Parameter]]
    """By part, in the order of the model's parameters."""
    names: list[list[str]]
    """By part: names of parameters and buffers in the model's state."""
    shared: list[nn.Parameter]
    """In more than one part."""

    def nodes(self, part: int) -> list[fx.Node]:
        return [node for node in self.graph.graph.nodes if self.part_of[node] == part and node.op not in ("placeholder", "output")]

    def wire(self, part: int) -> list[fx.Node]:
        """The values that go from this part to the next one, in order."""
        return [
            node
            for node in self.graph.graph.nodes
            if self.part_of[node] <= part and any(self.part_of[user] > part for user in node.users)
        ]

    def run(self, part: int, values: dict[fx.Node, Any]) -> dict[fx.Node, Any]:
        """Carry out one part's operations; values gets their results."""
        interpreter = fx.Interpreter(self.graph, garbage_collect_values=False)
        interpreter.env = values
        for node in self.nodes(part):
            values[node] = interpreter.run_node(node)
        return values

    def result(self, values: dict[fx.Node, Any]) -> Any:
        output = next(node for node in self.graph.graph.nodes if node.op == "output")
        return fx.node.map_arg(output.args[0], lambda node: values[node])


class _Tracer(fx.Tracer):
    """Modules whose part was chosen by hand are not looked into."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return hasattr(module, _ATTRIBUTE) or super().is_leaf_module(module, name)


class _CoarseTracer(fx.Tracer):
    """Only the top is looked at: for models whose modules decide by values."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        del module, name
        return True


def split(model: nn.Module, given: Collection[str]) -> Split:
    """Trace and cut. given: the parameters of `forward` that the call gives."""
    concrete = {
        name: parameter.default
        for name, parameter in inspect.signature(model.forward).parameters.items()
        if name not in given and parameter.default is not inspect.Parameter.empty
    }
    graph = _traced(model, concrete)
    part_of = _parts(model, graph)
    return Split(graph, part_of, *_owned(model, part_of))


def _traced(model: nn.Module, concrete: dict[str, Any]) -> fx.GraphModule:
    reasons = []
    for tracer in (_Tracer(), _CoarseTracer()):
        try:
            return fx.GraphModule(model, tracer.trace(model, concrete_args=concrete or None))
        except Exception as error:  # noqa: BLE001 - whatever a model's code raises while it is traced
            reasons.append(str(error).strip().splitlines()[0] if str(error) else repr(error))
    raise SMPValidationError(
        f"The model cannot be partitioned, because its forward decides by the values of tensors: {reasons[-1]}. "
        "Put such code into modules of its own, so that the top module only calls them."
    )


def _parts(model: nn.Module, graph: fx.GraphModule) -> dict[fx.Node, int]:
    """Never back: a node is in the part of its latest argument, or a later one."""
    settings = state()
    modules = dict(model.named_modules())
    weight = {node: _weight(node, modules, graph) for node in graph.graph.nodes}
    counted: set[str] = set()
    for node in graph.graph.nodes:
        if node.op in ("call_module", "get_attr"):
            weight[node] = 0 if node.target in counted else weight[node]
            counted.add(str(node.target))
    total, before, last = sum(weight.values()) or 1, 0, settings.pp_size - 1
    found: dict[fx.Node, int] = {}
    reached = 0
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            found[node] = 0
            continue
        if settings.is_automatic:
            if weight[node]:
                reached = max(reached, min(last, int((before + weight[node] / 2) / total * settings.pp_size)))
                before += weight[node]
        elif node.op == "call_module":
            reached = max(reached, getattr(modules[str(node.target)], _ATTRIBUTE, settings.default_partition))
        found[node] = last if node.op == "output" else reached
    for node in reversed(graph.graph.nodes):
        if node.op == "get_attr" and node.users:
            found[node] = min(found[user] for user in node.users)
    return found


def _weight(node: fx.Node, modules: dict[str, nn.Module], graph: fx.GraphModule) -> int:
    if node.op == "call_module":
        return sum(parameter.numel() for parameter in modules[str(node.target)].parameters())
    if node.op == "get_attr":
        return _attribute(graph, str(node.target)).numel()
    return 0


def _attribute(root: Any, path: str) -> Any:
    for name in path.split("."):
        root = getattr(root, name)
    return root if isinstance(root, torch.Tensor) else torch.empty(0)


def _owned(model: nn.Module, part_of: dict[fx.Node, int]) -> tuple[list[list[nn.Parameter]], list[list[str]], list[nn.Parameter]]:
    """(parameters by part, names by part, parameters of several parts)"""
    prefixes: list[list[str]] = [[] for _ in range(state().pp_size)]
    for node, part in part_of.items():
        if node.op in ("call_module", "get_attr"):
            prefixes[part].append(str(node.target))
    tensors = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}
    names: list[list[str]] = []
    for part, own in enumerate(prefixes):
        held = {
            id(tensor) for name, tensor in tensors.items() if any(name == prefix or name.startswith(f"{prefix}.") for prefix in own)
        }
        used = {
            id(tensors[name])
            for others in prefixes
            for name in tensors
            if any(name == one or name.startswith(f"{one}.") for one in others)
        }
        # What no operation takes belongs to the first part.
        names.append([name for name, tensor in tensors.items() if id(tensor) in held or (part == 0 and id(tensor) not in used)])
    parameters = []
    for own_names in names:
        seen: dict[int, nn.Parameter] = {}
        for name in own_names:
            if isinstance(tensors[name], nn.Parameter):
                seen.setdefault(id(tensors[name]), tensors[name])
        parameters.append(list(seen.values()))
    times: dict[int, int] = {}
    for own_parameters in parameters:
        for parameter in own_parameters:
            times[id(parameter)] = times.get(id(parameter), 0) + 1
    shared = [parameter for parameter in model.parameters() if times.get(id(parameter), 0) > 1]
    return parameters, names, shared
