from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from abn_fast._checks import checked_depth
from abn_fast.models._backbone import Backbone
from abn_fast.models._blocks import conv1x1, conv3x3, make_stage, named_sequential
from abn_fast.models._initialization import fan_out_normal_zero_bias
from abn_fast.models._registry import register_model
from abn_fast.modules import NormReluPool


class WideBlock(nn.Module):
    """Pre-activation block of two 3x3 convolutions (Zagoruyko and Komodakis, BMVC 2016).

    Where the channels change, the shortcut starts after the first norm and ReLU.
    """

    def __init__(self, out_channels: int, drop_rate: float, in_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.drop_rate = drop_rate
        self.shortcut = None if in_channels == out_channels else conv1x1(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """F(x) + shortcut."""
        activated = self.relu(self.bn1(x))
        out = self.relu(self.bn2(self.conv1(activated)))
        out = self.conv2(F.dropout(out, self.drop_rate, self.training))
        shortcut: Tensor = x if self.shortcut is None else self.shortcut(activated)
        total: Tensor = shortcut + out
        return total


@register_model(
    "wide_resnet{depth}_{width}",
    variants=[{"depth": 16, "width": 8}, {"depth": 28, "width": 10}, {"depth": 40, "width": 4}],
    image_size=32,
)
def wide_resnet(
    *, depth: int, width: int, num_classes: int = 10, in_chans: int = 3, drop_rate: float = 0.0
) -> Backbone:
    """Wide ResNet of depth 6n + 4 and widening factor `width` (Zagoruyko and Komodakis, BMVC 2016)."""
    n = checked_depth("wide_resnet", depth, 6, 4)

    def block(out_channels: int) -> partial[WideBlock]:
        return partial(WideBlock, out_channels, drop_rate)

    last_stage = partial(make_stage, block(64 * width), n, 32 * width, 64 * width)
    return Backbone(
        extractor=named_sequential(
            conv1=conv3x3(in_chans, 16),
            block1=make_stage(block(16 * width), n, 16, 16 * width, stride=1),
            block2=make_stage(block(32 * width), n, 16 * width, 32 * width, stride=2),
        ),
        perception_stage=last_stage(stride=2),
        attention_stage=partial(last_stage, stride=1),
        stage_channels=64 * width,
        pool=NormReluPool(64 * width),
        classifier=nn.Linear(64 * width, num_classes),
        num_classes=num_classes,
        initialize=fan_out_normal_zero_bias,
    )
