import matplotlib
import numpy as np
import pytest
import torch

from abn_fast._errors import AbnFastError
from abn_fast.explain import colorize, overlay, rescale


@pytest.mark.parametrize("name", ["jet", "viridis", "magma", "tab10"])
def test_colours_are_those_matplotlib_gives(name: str) -> None:
    ramp = torch.cat([torch.linspace(0, 1, 999), torch.tensor([0.5, 1 / 256, 255 / 256])]).view(2, 3, 167)
    expected = matplotlib.colormaps[name](ramp.numpy())[..., :3]
    colours = colorize(ramp, name)
    assert colours.shape == (2, 3, 3, 167)
    np.testing.assert_allclose(colours.permute(0, 2, 3, 1).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_an_overlay_is_the_weighted_mean_of_image_and_colour(alpha: float) -> None:
    images, maps = torch.rand(2, 3, 4, 5), torch.rand(2, 4, 5)
    colours = matplotlib.colormaps["viridis"](maps.numpy())[..., :3].transpose(0, 3, 1, 2)
    expected = (1 - alpha) * images.numpy() + alpha * colours
    np.testing.assert_allclose(overlay(images, maps, alpha, "viridis").numpy(), expected, atol=1e-6)


def test_jet_is_the_default_of_both() -> None:
    images, maps = torch.rand(1, 3, 4, 5), torch.rand(1, 4, 5)
    assert torch.equal(colorize(maps), colorize(maps, "jet"))
    assert torch.equal(overlay(images, maps, 1.0), colorize(maps, "jet"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_an_overlay_has_the_dtype_of_the_images(dtype: torch.dtype) -> None:
    images, maps = torch.rand(1, 3, 4, 5, dtype=torch.float64), torch.rand(1, 4, 5)
    blended = overlay(images.to(dtype), maps)
    assert blended.dtype == dtype
    torch.testing.assert_close(blended.double(), overlay(images, maps), atol=0.01, rtol=0)


def test_rounding_just_outside_the_unit_range_is_clamped() -> None:
    images = torch.tensor([-1e-6, 1 + 1e-6]).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    blended = overlay(images, torch.tensor([[[-1e-7, 1 + 1e-7]]]), alpha=0.0)
    assert blended.aminmax() == (0, 1)


def test_rescaling_stretches_each_map_to_its_own_range() -> None:
    maps = torch.tensor([[[0.2, 0.3, 0.6]], [[0.0, 30.0, 40.0]]])
    torch.testing.assert_close(rescale(maps), torch.tensor([[[0, 0.25, 1]], [[0, 0.75, 1]]]))


def test_rescaling_a_constant_map_gives_zeros() -> None:
    assert not rescale(torch.full((1, 3, 3), 0.7)).any()


def test_rescaled_maps_can_always_be_coloured() -> None:
    maps = torch.rand(64, 5, 5, generator=torch.Generator().manual_seed(0)) * torch.logspace(-6, 6, 64)[:, None, None]
    assert rescale(maps).aminmax() == (0, 1)


def test_no_maps_give_no_pictures() -> None:
    assert overlay(torch.rand(0, 3, 4, 4), torch.rand(0, 4, 4)).shape == (0, 3, 4, 4)


@pytest.mark.parametrize(
    ("maps", "colormap", "message"),
    [
        (torch.rand(2, 4, 4), "virdis", "colour map 'virdis' does not exist in matplotlib; try viridis"),
        (torch.rand(2, 4, 4) + 3, "jet", r"maps have values in \[3.*rescale\(maps\)"),
        (torch.rand(2, 4, 4) - 1, "jet", r"expected \[0, 1\]"),
        (torch.full((1, 4, 4), torch.nan), "jet", "NaN"),
        (torch.rand(2, 3, 4, 4), "jet", r"maps have shape \[2, 3, 4, 4\], expected \[N, H, W\]"),
    ],
)
def test_maps_that_have_no_colours_are_refused_in_one_line(maps: torch.Tensor, colormap: str, message: str) -> None:
    with pytest.raises(AbnFastError, match=message) as error:
        colorize(maps, colormap)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("images", "maps", "alpha", "message"),
    [
        (torch.rand(1, 3, 8, 8), torch.rand(1, 4, 4), 0.5, r"upsample\(maps, \(8, 8\)\)"),
        (torch.rand(2, 3, 4, 4), torch.rand(1, 4, 4), 0.5, r"expected \[2, 4, 4\]"),
        (torch.rand(1, 1, 4, 4), torch.rand(1, 4, 4), 0.5, r"expected RGB \[N, 3, H, W\]"),
        (torch.ones(1, 3, 4, 4, dtype=torch.uint8), torch.rand(1, 4, 4), 0.5, "uint8"),
        (torch.randn(1, 3, 4, 4) * 9, torch.rand(1, 4, 4), 0.5, "images have values in .*denormalize"),
        (torch.full((1, 3, 4, 4), torch.nan), torch.rand(1, 4, 4), 0.5, r"images have values in \[nan"),
        (torch.rand(1, 3, 4, 4), torch.rand(1, 4, 4), 1.5, r"alpha 1\.5 must be in \[0, 1\]"),
    ],
)
def test_images_and_maps_that_do_not_fit_are_refused_in_one_line(
    images: torch.Tensor, maps: torch.Tensor, alpha: float, message: str
) -> None:
    with pytest.raises(AbnFastError, match=message) as error:
        overlay(images, maps, alpha)
    assert "\n" not in str(error.value)
