import numpy as np
import pytest
import torch
from PIL import Image

from abn_fast._errors import AbnFastError
from abn_fast.explain import upsample
from abn_fast.explain.upsample import Mode

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


@pytest.mark.parametrize("size", [(48, 48), (31, 57), (7, 5), (3, 40), (1, 1)])
@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_it_resizes_as_pillow_does(mode: Mode, size: tuple[int, int]) -> None:
    maps = torch.rand(3, 1, 7, 5, generator=torch.Generator().manual_seed(0))
    expected = [np.asarray(Image.fromarray(one.numpy()).resize(size[::-1], FILTERS[mode])) for one in maps[:, 0]]
    resized = upsample(maps, size, mode)
    assert resized.shape == (3, *size)
    np.testing.assert_allclose(resized.numpy(), np.stack(expected), atol=1e-6)


def test_bilinear_weights_are_those_of_the_pixel_centres() -> None:
    maps = torch.tensor([[[0.0, 1.0]]], dtype=torch.float64)
    expected = torch.tensor([[[0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1]]], dtype=torch.float64)
    torch.testing.assert_close(upsample(maps, (1, 8)), expected)


def test_maps_with_and_without_channel_are_the_same_maps() -> None:
    maps = torch.rand(2, 4, 6)
    assert torch.equal(upsample(maps, (9, 9)), upsample(maps[:, None], (9, 9)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bit_maps_are_resized_in_float32(dtype: torch.dtype) -> None:
    maps = torch.rand(1, 4, 4).to(dtype)
    assert torch.equal(upsample(maps, (13, 13)), upsample(maps.float(), (13, 13)))


def test_gradients_reach_the_map() -> None:
    maps = torch.rand(2, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m: upsample(m, (5, 7)), maps)


def test_no_maps_give_no_maps() -> None:
    assert upsample(torch.rand(0, 1, 4, 4), (8, 8)).shape == (0, 8, 8)


@pytest.mark.parametrize(
    ("maps", "size", "mode", "message"),
    [
        (torch.rand(4, 4), (8, 8), "bilinear", r"shape \[4, 4\], expected \[N, H, W\]"),
        (torch.rand(2, 3, 4, 4), (8, 8), "bilinear", r"shape \[2, 3, 4, 4\]"),
        (torch.ones(1, 4, 4, dtype=torch.int64), (8, 8), "bilinear", "int64"),
        (torch.full((1, 4, 4), torch.nan), (8, 8), "bilinear", "NaN"),
        (torch.rand(1, 4, 4), (0, 8), "bilinear", r"size \(0, 8\)"),
        (torch.rand(1, 4, 4), (8, 8), "cubic", "mode 'cubic': expected 'nearest', 'bilinear' or 'bicubic'"),
    ],
)
def test_bad_input_is_refused_in_one_line(maps: torch.Tensor, size: tuple[int, int], mode: Mode, message: str) -> None:
    with pytest.raises(AbnFastError, match=message) as error:
        upsample(maps, size, mode)
    assert "\n" not in str(error.value)
