from collections import OrderedDict
from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from abn_fast import kernels

MakeBlock = Callable[[int, int], nn.Module]
"""(input channels, stride) -> block."""


def conv3x3(in_channels: int, out_channels: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A 3x3 convolution without bias that keeps the size at stride 1."""
    return nn.Conv2d(in_channels, out_channels, 3, stride, 1, groups=groups, bias=False)


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """A 1x1 convolution without bias."""
    return nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)


class SqueezeExcitation(nn.Module):
    """Channel gate sigmoid(fc2(relu(fc1(GAP(x))))) of SENet (Hu et al., CVPR 2018)."""

    def __init__(self, channels: int, reduced: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, reduced)
        self.fc2 = nn.Linear(reduced, channels)

    def forward(self, x: Tensor) -> Tensor:
        """The gated x, [N, C, H, W]."""
        gate: Tensor = self.fc2(F.relu(self.fc1(kernels.global_average_pool(x)))).sigmoid()
        return x * gate[:, :, None, None]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al., CVPR 2016)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, se_channels: int | None = None) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.se = _squeeze_excitation(out_channels, se_channels)
        self.downsample = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """relu(F(x) + shortcut(x))."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.se(self.bn2(self.conv2(out)))
        output: Tensor = self.relu(out + self.downsample(x))
        return output


class Bottleneck(nn.Module):
    """1x1, 3x3 (in `groups`) and 1x1 convolution and a shortcut; the stride is the 3x3's."""

    def __init__(
        self,
        in_channels: int,
        width: int,
        out_channels: int,
        stride: int,
        groups: int = 1,
        se_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.conv1 = conv1x1(in_channels, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, stride, groups)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv1x1(width, out_channels)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.se = _squeeze_excitation(out_channels, se_channels)
        self.downsample = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """relu(F(x) + shortcut(x))."""
        return self.finish(*self.project(x))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The bias-free 1x1 convolutions that begin F and the shortcut, with which a gate of pixels commutes."""
        return self.conv1(x), x if isinstance(self.downsample, nn.Identity) else self.downsample[0](x)

    def finish(self, projected: Tensor, shortcut: Tensor) -> Tensor:
        """All that follows `project`."""
        out = self.relu(self.bn1(projected))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.se(self.bn3(self.conv3(out)))
        shortcut = shortcut if isinstance(self.downsample, nn.Identity) else self.downsample[1](shortcut)
        output: Tensor = self.relu(out + shortcut)
        return output


BlockKind = Literal["basic", "bottleneck"]
EXPANSION: dict[BlockKind, int] = {"basic": 1, "bottleneck": 4}


def residual_stage(
    block: BlockKind, in_channels: int, planes: int, blocks: int, stride: int, se_reduction: int | None = None
) -> nn.Sequential:
    """`blocks` residual blocks of EXPANSION * planes channels, the first of which changes the resolution."""
    out_channels = EXPANSION[block] * planes
    se_channels = None if se_reduction is None else max(1, round(out_channels / se_reduction))

    def make(channels: int, step: int) -> nn.Module:
        if block == "basic":
            return BasicBlock(channels, out_channels, step, se_channels)
        return Bottleneck(channels, planes, out_channels, step, se_channels=se_channels)

    return make_stage(make, blocks, in_channels, out_channels, stride)


def make_stage(make: MakeBlock, blocks: int, in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """`blocks` blocks in a row, the first of which changes channels and resolution."""
    return nn.Sequential(make(in_channels, stride), *(make(out_channels, 1) for _ in range(blocks - 1)))


def named_sequential(**modules: nn.Module) -> nn.Sequential:
    """A sequence whose parts keep their names."""
    return nn.Sequential(OrderedDict(modules))


def _squeeze_excitation(channels: int, reduced: int | None) -> nn.Module:
    return nn.Identity() if reduced is None else SqueezeExcitation(channels, reduced)


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Identity | nn.Sequential:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(conv1x1(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels))
