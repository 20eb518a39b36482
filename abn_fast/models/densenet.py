from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abn_fast._checks import checked_depth
from abn_fast.models._backbone import Backbone
from abn_fast.models._blocks import conv1x1, conv3x3, named_sequential
from abn_fast.models._initialization import fan_out_normal
from abn_fast.models._registry import register_model
from abn_fast.modules import NormReluPool


class DenseLayer(nn.Module):
    """Norm, ReLU, 1x1, norm, ReLU, 3x3, appended to the input (Huang et al., CVPR 2017)."""

    def __init__(self, in_channels: int, growth: int, drop_rate: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv1x1(in_channels, 4 * growth)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = conv3x3(4 * growth, growth)
        self.relu = nn.ReLU(inplace=True)
        self.drop_rate = drop_rate

    def forward(self, x: Tensor) -> Tensor:
        """The input with `growth` channels more."""
        out = self.conv1(self.relu(self.bn1(x)))
        out = self.conv2(self.relu(self.bn2(out)))
        return torch.cat((x, F.dropout(out, self.drop_rate, self.training)), 1)


def _transition(in_channels: int, out_channels: int) -> nn.Sequential:
    return named_sequential(
        bn1=nn.BatchNorm2d(in_channels),
        relu=nn.ReLU(inplace=True),
        conv1=conv1x1(in_channels, out_channels),
        pool=nn.AvgPool2d(2),
    )


@register_model(
    "densenet_bc{depth}_{growth}",
    variants=[{"depth": 40, "growth": 12}, {"depth": 100, "growth": 12}],
    image_size=32,
)
def densenet_bc(
    *,
    depth: int,
    growth: int,
    num_classes: int = 10,
    in_chans: int = 3,
    compression: int = 2,
    drop_rate: float = 0.0,
) -> Backbone:
    """DenseNet-BC of depth 6n + 4 for small images; transitions divide the channels by `compression`.

    The network is cut after the second transition, so both copies of the last dense block keep the resolution.
    """
    n = checked_depth("densenet_bc", depth, 6, 4)

    def dense_block(in_channels: int) -> nn.Sequential:
        return nn.Sequential(*(DenseLayer(in_channels + i * growth, growth, drop_rate) for i in range(n)))

    first = 2 * growth
    second = (first + n * growth) // compression
    third = (second + n * growth) // compression
    last = third + n * growth
    return Backbone(
        extractor=named_sequential(
            conv1=conv3x3(in_chans, first),
            dense1=dense_block(first),
            trans1=_transition(first + n * growth, second),
            dense2=dense_block(second),
            trans2=_transition(second + n * growth, third),
        ),
        perception_stage=dense_block(third),
        attention_stage=partial(dense_block, third),
        stage_channels=last,
        pool=NormReluPool(last),
        classifier=nn.Linear(last, num_classes),
        num_classes=num_classes,
        initialize=fan_out_normal,
    )
