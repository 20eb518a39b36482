from collections.abc import Callable
from functools import partial
from itertools import pairwise

from torch import nn

from abn_fast._checks import checked_choice
from abn_fast.models._backbone import Backbone
from abn_fast.models._initialization import kaiming_fan_out_small_linear
from abn_fast.models._registry import register_model
from abn_fast.modules import GlobalAveragePool

CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
CHANNELS = (64, 128, 256, 512, 512)
DEPTHS = [{"depth": 16}, {"depth": 19}]


@register_model("vgg{depth}", variants=DEPTHS, image_size=224)
def vgg(*, depth: int, num_classes: int = 1000, in_chans: int = 3, drop_rate: float = 0.5) -> Backbone:
    """VGG (Simonyan and Zisserman, ICLR 2015), cut after pool4; the attention branch's copy of conv5 has no pool5."""
    return _vgg(depth, in_chans, num_classes, _plain, partial(_fully_connected, drop_rate=drop_rate))


@register_model("vgg{depth}_bn", variants=DEPTHS, image_size=224)
def vgg_bn(*, depth: int, num_classes: int = 1000, in_chans: int = 3, drop_rate: float = 0.5) -> Backbone:
    """`vgg` with batch norm after each convolution."""
    return _vgg(depth, in_chans, num_classes, _normalised, partial(_fully_connected, drop_rate=drop_rate))


@register_model("vgg{depth}_cam", variants=DEPTHS, image_size=224)
def vgg_cam(*, depth: int, num_classes: int = 1000, in_chans: int = 3) -> Backbone:
    """`vgg` as CAM needs it: GAP and one linear layer instead of the fully connected ones (Zhou et al., CVPR 2016)."""
    return _vgg(depth, in_chans, num_classes, _plain, _pooled)


@register_model("vgg{depth}_bn_cam", variants=DEPTHS, image_size=224)
def vgg_bn_cam(*, depth: int, num_classes: int = 1000, in_chans: int = 3) -> Backbone:
    """`vgg_cam` with batch norm after each convolution."""
    return _vgg(depth, in_chans, num_classes, _normalised, _pooled)


MakeConvolution = Callable[[int, int], list[nn.Module]]
MakeTail = Callable[[int], tuple[nn.Module, nn.Module]]


def _vgg(depth: int, in_chans: int, num_classes: int, convolution: MakeConvolution, tail: MakeTail) -> Backbone:
    counts = CONVOLUTIONS[checked_choice("depth", depth, CONVOLUTIONS)]

    def stage(index: int) -> list[nn.Module]:
        channels = [CHANNELS[index - 1] if index else in_chans] + [CHANNELS[index]] * counts[index]
        return [layer for pair in pairwise(channels) for layer in convolution(*pair)]

    extractor = [layer for index in range(4) for layer in [*stage(index), nn.MaxPool2d(2)]]
    pool, classifier = tail(num_classes)
    return Backbone(
        extractor=nn.Sequential(*extractor),
        perception_stage=nn.Sequential(*stage(4), nn.MaxPool2d(2)),
        attention_stage=lambda: nn.Sequential(*stage(4)),
        stage_channels=CHANNELS[4],
        pool=pool,
        classifier=classifier,
        num_classes=num_classes,
        initialize=kaiming_fan_out_small_linear,
    )


def _plain(in_channels: int, out_channels: int) -> list[nn.Module]:
    return [nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.ReLU(inplace=True)]


def _normalised(in_channels: int, out_channels: int) -> list[nn.Module]:
    convolution, relu = _plain(in_channels, out_channels)
    return [convolution, nn.BatchNorm2d(out_channels), relu]


def _fully_connected(num_classes: int, drop_rate: float) -> tuple[nn.Module, nn.Module]:
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(7), nn.Flatten())
    classifier = nn.Sequential(
        *(nn.Linear(CHANNELS[4] * 7 * 7, 4096), nn.ReLU(inplace=True), nn.Dropout(drop_rate)),
        *(nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(drop_rate)),
        nn.Linear(4096, num_classes),
    )
    return pool, classifier


def _pooled(num_classes: int) -> tuple[nn.Module, nn.Module]:
    return GlobalAveragePool(), nn.Linear(CHANNELS[4], num_classes)
