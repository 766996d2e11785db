"""Values between neighbouring parts: point-to-point messages of torch.distributed that carry tensors and what else a model passes on."""

from __future__ import annotations

import pickle
from typing import Any

import torch
import torch.distributed as dist


class Wire:
    """To and from one neighbour. Sending never waits; `finish` does."""

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self._under_way: list[tuple[Any, torch.Tensor]] = []

    def send(self, values: list[Any]) -> None:
        tensors = [value.detach().to("cpu").contiguous() for value in values if isinstance(value, torch.Tensor)]
        header = pickle.dumps([_described(value) for value in values])
        self._send(torch.tensor([len(header)]))
        self._send(torch.frombuffer(bytearray(header), dtype=torch.uint8))
        for tensor in tensors:
            if tensor.numel():
                self._send(tensor)

    def receive(self, device: torch.device) -> list[Any]:
        """Tensors that may have gradients come as leaves."""
        length = torch.empty(1, dtype=torch.int64)
        dist.recv(length, self._rank)
        header = torch.empty(int(length), dtype=torch.uint8)
        dist.recv(header, self._rank)
        return [self._received(entry, device) for entry in pickle.loads(header.numpy().tobytes())]

    def finish(self) -> None:
        for work, _ in self._under_way:
            work.wait()
        self._under_way.clear()

    def _received(self, entry: tuple[Any, ...], device: torch.device) -> Any:
        if entry[0] == "value":
            return entry[1]
        _, shape, dtype, has_gradient = entry
        tensor = torch.empty(shape, dtype=dtype)
        if tensor.numel():
            dist.recv(tensor, self._rank)
        tensor = tensor.to(device)
        return tensor.requires_grad_() if has_gradient and torch.is_grad_enabled() else tensor

    def _send(self, tensor: torch.Tensor) -> None:
        # The tensor must live until it is sent.
        self._under_way.append((dist.isend(tensor, self._rank), tensor))


def _described(value: Any) -> tuple[Any, ...]:
    if isinstance(value, torch.Tensor):
        return "tensor", tuple(value.shape), value.dtype, value.requires_grad
    return "value", value


def order(part: int, parts: int, microbatches: int, *, is_simple: bool, has_backward: bool) -> list[tuple[str, int]]:
    """What a part does when: ("forward" | "backward", which microbatch). The last part does both at once and is not asked.

    simple: all forward, then all backward. interleaved: as soon as a microbatch is back, so that few are under way.
    """
    if not has_backward:
        return [("forward", number) for number in range(microbatches)]
    ahead = microbatches if is_simple else min(parts - 1 - part, microbatches)
    found = [("forward", number) for number in range(ahead)]
    for number in range(microbatches):
        if ahead + number < microbatches:
            found.append(("forward", ahead + number))
        found.append(("backward", number))
    return found
