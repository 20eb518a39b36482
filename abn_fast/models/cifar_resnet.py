from functools import partial

from torch import nn

from abn_fast._checks import checked_choice, checked_depth
from abn_fast.models._backbone import Backbone
from abn_fast.models._blocks import EXPANSION, BlockKind, conv3x3, named_sequential, residual_stage
from abn_fast.models._initialization import fan_out_normal
from abn_fast.models._registry import register_model
from abn_fast.modules import GlobalAveragePool

BOTTLENECK_FROM_DEPTH = 44


def default_block(depth: int) -> BlockKind:
    """The published code's choice of block."""
    return "bottleneck" if depth >= BOTTLENECK_FROM_DEPTH else "basic"


@register_model("cifar_resnet{depth}", variants=[{"depth": depth} for depth in (20, 32, 44, 56, 110)], image_size=32)
def cifar_resnet(
    *, depth: int, num_classes: int = 10, in_chans: int = 3, block: BlockKind | None = None, width: int = 16
) -> Backbone:
    """ResNet for small images: depth 6n + 2, three stages of n blocks (He et al., CVPR 2016, section 4.2).

    As in the published ABN code, blocks are bottlenecks from depth 44 on, unless `block` says otherwise.
    `width` is the first stage's.
    """
    n = checked_depth("cifar_resnet", depth, 6, 2)
    kind: BlockKind = default_block(depth) if block is None else checked_choice("block", block, EXPANSION)
    expansion = EXPANSION[kind]
    last_stage = partial(residual_stage, kind, 2 * width * expansion, 4 * width, n)
    return Backbone(
        extractor=named_sequential(
            conv1=conv3x3(in_chans, width),
            bn1=nn.BatchNorm2d(width),
            relu=nn.ReLU(inplace=True),
            layer1=residual_stage(kind, width, width, n, stride=1),
            layer2=residual_stage(kind, width * expansion, 2 * width, n, stride=2),
        ),
        perception_stage=last_stage(stride=2),
        attention_stage=partial(last_stage, stride=1),
        stage_channels=4 * width * expansion,
        pool=GlobalAveragePool(),
        classifier=nn.Linear(4 * width * expansion, num_classes),
        num_classes=num_classes,
        initialize=fan_out_normal,
    )
