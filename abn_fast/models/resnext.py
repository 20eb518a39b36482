from functools import partial

from torch import nn

from abn_fast._checks import checked_depth
from abn_fast.kernels import Gate
from abn_fast.models._backbone import Backbone
from abn_fast.models._blocks import Bottleneck, conv3x3, make_stage, named_sequential
from abn_fast.models._initialization import kaiming_fan_out_linear_fan_in
from abn_fast.models._registry import register_model
from abn_fast.modules import AttentionHead, GlobalAveragePool


class UnusedNorm(nn.Module):
    """The state of a norm that is never applied, as buffers: an unused parameter breaks DistributedDataParallel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, value in nn.BatchNorm2d(channels).state_dict().items():
            self.register_buffer(name, value)


class ResNeXtAttentionHead(AttentionHead):
    """The published ResNeXt's head: without bn1, although its checkpoints hold one (`bn_att`)."""

    def __init__(self, in_channels: int, num_classes: int, gate: Gate = "residual") -> None:
        super().__init__(in_channels, num_classes, gate, pre_norm=False)
        self.unused_bn1 = UnusedNorm(in_channels)


STAGE_CHANNELS = (256, 512, 1024)


@register_model(
    "resnext{depth}_{cardinality}x{base_width}d",
    variants=[{"depth": 29, "cardinality": cardinality, "base_width": 64} for cardinality in (8, 16)],
    image_size=32,
)
def resnext(*, depth: int, cardinality: int, base_width: int, num_classes: int = 10, in_chans: int = 3) -> Backbone:
    """ResNeXt of depth 9n + 2 for small images (Xie et al., CVPR 2017); `base_width` is a first-stage group's width."""
    n = checked_depth("resnext", depth, 9, 2)

    def stage(index: int, stride: int) -> nn.Sequential:
        out_channels = STAGE_CHANNELS[index]
        in_channels = STAGE_CHANNELS[index - 1] if index else 64
        return make_stage(
            lambda channels, step: Bottleneck(
                channels, cardinality * base_width << index, out_channels, step, groups=cardinality
            ),
            n,
            in_channels,
            out_channels,
            stride,
        )

    return Backbone(
        extractor=named_sequential(
            conv1=conv3x3(in_chans, 64),
            bn1=nn.BatchNorm2d(64),
            relu=nn.ReLU(inplace=True),
            layer1=stage(0, 1),
            layer2=stage(1, 2),
        ),
        perception_stage=stage(2, 2),
        attention_stage=partial(stage, 2, 1),
        stage_channels=STAGE_CHANNELS[-1],
        pool=GlobalAveragePool(),
        classifier=nn.Linear(STAGE_CHANNELS[-1], num_classes),
        num_classes=num_classes,
        initialize=kaiming_fan_out_linear_fan_in,
        attention_head=ResNeXtAttentionHead,
    )
