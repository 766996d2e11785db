"""Residual networks with pre-activation (He et al., "Identity Mappings in Deep Residual Networks", 2016), in the depths AWS names.

18, 34, 50, 101, 152, 200 are the shapes for large pictures (four stages), 20, 32, 44, 56, 110 those for small ones (three stages).
"""

from __future__ import annotations

import torch
from torch import nn

LARGE = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
SMALL = (20, 32, 44, 56, 110)
DEPTHS = (*LARGE, *SMALL)


class Unit(nn.Module):
    """Two 3x3 convolutions, or 1x1, 3x3, 1x1 (a bottleneck), beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, dilation: int, is_bottleneck: bool) -> None:
        super().__init__()
        middle = outputs // 4 if is_bottleneck else outputs
        plan = (
            [(inputs, middle, 1, 1), (middle, middle, 3, stride), (middle, outputs, 1, 1)]
            if is_bottleneck
            else [(inputs, middle, 3, stride), (middle, outputs, 3, 1)]
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(a) for a, *_ in plan)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, k, s, padding=dilation * (k // 2), dilation=dilation if k > 1 else 1, bias=False) for a, b, k, s in plan
        )
        is_same = inputs == outputs and stride == 1
        self.shortcut = None if is_same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = torch.relu(self.norms[0](x))
        kept = x if self.shortcut is None else self.shortcut(out)
        out = self.convolutions[0](out)
        for norm, convolution in zip(self.norms[1:], self.convolutions[1:], strict=True):
            out = convolution(torch.relu(norm(out)))
        return out + kept


class ResNet(nn.Module):
    """Features of a picture; `widths` and `strides` describe what each stage gives. `dilate_from`: stages from this one keep their size."""

    def __init__(self, depth: int, channels: int = 3, is_small_picture: bool = False, dilate_from: int | None = None) -> None:
        super().__init__()
        is_large = depth in LARGE
        units = LARGE[depth] if is_large else ((depth - 2) // 6,) * 3
        is_bottleneck = is_large and depth >= 50
        self.widths = [64 * 2**i * (4 if is_bottleneck else 1) for i in range(4)] if is_large else [16, 32, 64]
        first = 64 if is_large else 16
        if is_large and not is_small_picture:
            self.stem = nn.Sequential(
                nn.BatchNorm2d(channels, affine=False),
                nn.Conv2d(channels, first, 7, 2, 3, bias=False),
                nn.BatchNorm2d(first),
                nn.ReLU(),
                nn.MaxPool2d(3, 2, 1),
            )
        else:
            self.stem = nn.Sequential(nn.BatchNorm2d(channels, affine=False), nn.Conv2d(channels, first, 3, 1, 1, bias=False))
        stages, inputs, dilation = [], first, 1
        for number, (count, width) in enumerate(zip(units, self.widths, strict=True)):
            stride = 1 if number == 0 else 2
            if dilate_from is not None and number >= dilate_from:
                stride, dilation = 1, dilation * 2
            stage = [
                Unit(inputs if i == 0 else width, width, stride if i == 0 else 1, dilation, is_bottleneck) for i in range(count)
            ]
            stages.append(nn.Sequential(*stage))
            inputs = width
        self.stages = nn.ModuleList(stages)
        self.norm = nn.BatchNorm2d(inputs)
        self.width = inputs
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stage_outputs(self, x: torch.Tensor) -> list[torch.Tensor]:
        """What every stage gives, the last one activated."""
        x, found = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        found[-1] = torch.relu(self.norm(x))
        return found

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.stage_outputs(x)[-1]
