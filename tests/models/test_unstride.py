import pytest
import torch
from torch import nn
from torch.testing import assert_close

from abn_fast.models._unstride import take_out_stride

LAYERS = {
    "3x3 convolution": nn.Conv2d(4, 8, 3, 2, 1),
    "1x1 convolution": nn.Conv2d(4, 8, 1, 2),
    "grouped dilated convolution": nn.Conv2d(4, 8, 5, 2, 4, dilation=2, groups=2),
    "2x2 convolution": nn.Conv2d(4, 8, 2, 2),
    "4x4 convolution": nn.Conv2d(4, 8, 4, 4),
    "2x2 max pool": nn.MaxPool2d(2),
    "3x3 max pool": nn.MaxPool2d(3, 2, ceil_mode=True),
    "2x2 average pool": nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False),
    "3x3 average pool": nn.AvgPool2d(3, 2, 1),
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("size", [(8, 12), (7, 9)])
def test_the_resolution_is_kept(layer: nn.Module, size: tuple[int, int]) -> None:
    stage = take_out_stride(nn.Sequential(layer))
    assert stage(torch.randn(1, 4, *size)).shape[-2:] == size


def test_an_odd_convolution_computes_what_it_did_at_more_places() -> None:
    x = torch.randn(1, 4, 8, 8)
    strided, dense = nn.Conv2d(4, 8, 3, 2, 1), nn.Conv2d(4, 8, 3, 2, 1)
    dense.load_state_dict(strided.state_dict())
    assert_close(take_out_stride(nn.Sequential(dense))(x)[..., ::2, ::2], strided(x))


def test_a_pool_computes_what_it_did_at_more_places() -> None:
    x = torch.randn(1, 4, 9, 9)
    pool = nn.MaxPool2d(3, 2, 1)
    assert_close(take_out_stride(nn.Sequential(pool))(x)[..., ::2, ::2], pool(x))


def test_layers_without_stride_stay() -> None:
    layers = [nn.Conv2d(4, 4, 2, 1), nn.MaxPool2d(2, 1), nn.BatchNorm2d(4)]
    assert list(take_out_stride(nn.Sequential(*layers)).children()) == layers
    assert layers[0].padding == (0, 0)


def test_a_blur_pool_goes() -> None:
    blur_pool = pytest.importorskip("timm.layers").BlurPool2d(4)
    assert isinstance(take_out_stride(nn.Sequential(blur_pool))[0], nn.Identity)  # type: ignore[index]
