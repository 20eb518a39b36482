from collections.abc import Callable, Sequence
from functools import partial

from torch import nn

from abn_fast._checks import MOST_BLOCKS, checked_choice, checked_whole
from abn_fast._errors import AbnFastError
from abn_fast.models._backbone import Backbone
from abn_fast.models._blocks import EXPANSION, BlockKind, named_sequential, residual_stage
from abn_fast.modules import GlobalAveragePool

LAYERS: dict[int, tuple[BlockKind, tuple[int, ...]]] = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}
DEPTHS = [{"depth": depth} for depth in LAYERS]


def blocks_and_layers(
    depth: int | None, block: BlockKind | None, layers: Sequence[int] | None
) -> tuple[BlockKind, tuple[int, ...]]:
    """The kind of block and the blocks a stage, from the depth or stated outright."""
    if depth is not None:
        if block is not None or layers is not None:
            raise AbnFastError(f"depth {depth} fixes block and layers: leave the depth out of the name to state them")
        return LAYERS[checked_choice("depth", depth, LAYERS)]
    if block is None or not isinstance(layers, Sequence) or len(layers) != 4:
        raise AbnFastError(
            f"a ResNet without a depth needs block='basic' or 'bottleneck' and four layers; got block={block!r}, "
            f"layers={layers!r}"
        )
    counts = tuple(checked_whole("layers", n) for n in layers)
    if max(counts) > MOST_BLOCKS:
        raise AbnFastError(f"layers={layers!r}; a stage has at most {MOST_BLOCKS} blocks")
    return checked_choice("block", block, EXPANSION), counts


def imagenet_resnet(
    block: BlockKind,
    layers: Sequence[int],
    num_classes: int,
    in_chans: int,
    width: int,
    initialize: Callable[[nn.Module], None],
    se_reduction: int | None = None,
) -> Backbone:
    """The ImageNet ResNet, with or without squeeze and excitation, cut after layer3."""
    expansion = EXPANSION[block]
    stage = partial(residual_stage, block, se_reduction=se_reduction)
    last_stage = partial(stage, 4 * width * expansion, 8 * width, layers[3])
    return Backbone(
        extractor=named_sequential(
            conv1=nn.Conv2d(in_chans, width, 7, 2, 3, bias=False),
            bn1=nn.BatchNorm2d(width),
            relu=nn.ReLU(inplace=True),
            maxpool=nn.MaxPool2d(3, 2, 1),
            layer1=stage(width, width, layers[0], stride=1),
            layer2=stage(width * expansion, 2 * width, layers[1], stride=2),
            layer3=stage(2 * width * expansion, 4 * width, layers[2], stride=2),
        ),
        perception_stage=last_stage(stride=2),
        attention_stage=partial(last_stage, stride=1),
        stage_channels=8 * width * expansion,
        pool=GlobalAveragePool(),
        classifier=nn.Linear(8 * width * expansion, num_classes),
        num_classes=num_classes,
        initialize=initialize,
    )
