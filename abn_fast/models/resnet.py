from collections.abc import Sequence

from abn_fast.models._backbone import Backbone
from abn_fast.models._blocks import BlockKind
from abn_fast.models._imagenet_resnet import DEPTHS, blocks_and_layers, imagenet_resnet
from abn_fast.models._initialization import kaiming_fan_out
from abn_fast.models._registry import register_model


@register_model("resnet{depth}", variants=DEPTHS, image_size=224)
def resnet(
    *,
    depth: int | None = None,
    num_classes: int = 1000,
    in_chans: int = 3,
    block: BlockKind | None = None,
    layers: Sequence[int] | None = None,
    width: int = 64,
) -> Backbone:
    """ResNet for ImageNet (He et al., CVPR 2016), of a depth in its name or of any `block` and four `layers`."""
    block, layers = blocks_and_layers(depth, block, layers)
    return imagenet_resnet(block, layers, num_classes, in_chans, width, kaiming_fan_out)
