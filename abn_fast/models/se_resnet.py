from collections.abc import Sequence
from dataclasses import replace

from abn_fast.models._backbone import Backbone
from abn_fast.models._blocks import BlockKind
from abn_fast.models._imagenet_resnet import DEPTHS, blocks_and_layers, imagenet_resnet
from abn_fast.models._initialization import fan_out_normal
from abn_fast.models._registry import register_model
from abn_fast.modules import LogMapAttentionHead


@register_model("se_resnet{depth}", variants=DEPTHS, image_size=224)
def se_resnet(
    *,
    depth: int | None = None,
    num_classes: int = 1000,
    in_chans: int = 3,
    block: BlockKind | None = None,
    layers: Sequence[int] | None = None,
    width: int = 64,
    se_reduction: int = 16,
) -> Backbone:
    """ResNet with squeeze and excitation (Hu et al., CVPR 2018); its ABN draws the map sum_k log(1 + a_k)."""
    block, layers = blocks_and_layers(depth, block, layers)
    backbone = imagenet_resnet(block, layers, num_classes, in_chans, width, fan_out_normal, se_reduction)
    return replace(backbone, attention_head=LogMapAttentionHead)
