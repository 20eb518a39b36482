import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from abn_fast._errors import AbnFastError
from abn_fast.data import Preprocessing

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("image_size", [(32, 32), (40, 24), (33, 65)])
@pytest.mark.parametrize("crop_pct", [1.0, 0.875, 0.95])
@pytest.mark.parametrize("picture", [(32, 32), (100, 71), (57, 200), (20, 23), (333, 333)])
def test_pixels_are_timms(image_size: tuple[int, int], crop_pct: float, picture: tuple[int, int]) -> None:
    timm = pytest.importorskip("timm.data")
    image = noise(*picture)
    for interpolation in ("bilinear", "bicubic", "nearest"):
        expected = timm.create_transform(
            (3, *image_size), crop_pct=crop_pct, interpolation=interpolation, mean=MEAN, std=STD
        )(image)
        seen = Preprocessing(image_size, MEAN, STD, crop_pct, interpolation)(image)
        assert seen.dtype == torch.float32
        assert torch.equal(seen, expected)


@pytest.mark.parametrize("picture", [(400, 300), (300, 400), (64, 64), (50, 333)])
@pytest.mark.parametrize("image_size", [(48, 48), (40, 64)])
def test_crop_box_is_where_the_crop_came_from(picture: tuple[int, int], image_size: tuple[int, int]) -> None:
    width, height = picture
    preprocessing = Preprocessing(image_size, (0.0,), (1.0,), crop_pct=0.8)
    left, top, right, bottom = preprocessing.crop_box(width, height)
    across, down = (np.arange(size) + 0.5 for size in (width, height))
    for ramp, axis, first, last, size in (
        (np.broadcast_to(across, (height, width)), 1, left, right, width),
        (np.broadcast_to(down[:, None], (height, width)), 0, top, bottom, height),
    ):
        seen = preprocessing(Image.fromarray((ramp / size * 255).round().astype(np.uint8)))[0].numpy()
        places = seen.mean(axis=1 - axis) * size  # coordinate in the picture of every row or column seen
        count = image_size[axis]
        expected = first + (np.arange(count) + 0.5) * (last - first) / count
        # half a grey level of rounding, twice; resizing bends the ramp at the picture's border
        inner = slice(2, -2)
        np.testing.assert_allclose(places[inner], expected[inner], atol=size / 255 + 0.01)


def test_crop_box_of_a_picture_that_fits_is_the_picture() -> None:
    assert Preprocessing((30, 50), MEAN, STD).crop_box(50, 30) == (0, 0, 50, 30)


def test_denormalize_undoes_normalize() -> None:
    preprocessing = Preprocessing((8, 8), MEAN, STD)
    images = torch.rand(2, 5, 3, 7, 9, dtype=torch.float64)
    kept = images.clone()
    normalized = preprocessing.normalize(images)
    expected = (images - torch.tensor(MEAN, dtype=torch.float64).view(3, 1, 1)) / torch.tensor(
        STD, dtype=torch.float64
    ).view(3, 1, 1)
    torch.testing.assert_close(normalized, expected)
    torch.testing.assert_close(preprocessing.denormalize(normalized), images)
    assert torch.equal(images, kept)


def test_denormalize_stays_displayable() -> None:
    shown = Preprocessing((8, 8), MEAN, STD).denormalize(torch.tensor([-9.0, 9.0]).expand(3, 4, 2))
    assert shown[..., 0].eq(0).all()
    assert shown[..., 1].eq(1).all()


def test_normalizing_the_wrong_channels_is_refused() -> None:
    with pytest.raises(AbnFastError, match=r"\[2, 1, 8, 8\].*3, H, W"):
        Preprocessing((8, 8), MEAN, STD).normalize(torch.zeros(2, 1, 8, 8))


def test_normalizing_whole_numbers_is_refused() -> None:
    with pytest.raises(AbnFastError, match="uint8"):
        Preprocessing((8, 8), MEAN, STD).normalize(torch.zeros(3, 8, 8, dtype=torch.uint8))


def test_to_tensor_keeps_the_pictures_size() -> None:
    image = noise(13, 7)
    seen = Preprocessing((48, 48), MEAN, STD, crop_pct=0.5).to_tensor(image)
    expected = (np.asarray(image).transpose(2, 0, 1) / 255 - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
    np.testing.assert_allclose(seen.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "LA"])
def test_any_picture_becomes_rgb_or_grey(mode: str) -> None:
    image = noise(16, 16, mode)
    for channels, target in ((3, "RGB"), (1, "L")):
        seen = Preprocessing((16, 16), (0.0,) * channels, (1.0,) * channels)(image)
        expected = np.asarray(image.convert(target)).reshape(16, 16, channels).transpose(2, 0, 1)
        np.testing.assert_allclose(seen.numpy() * 255, expected, atol=1e-4)


def test_a_16_bit_picture_keeps_its_contrast() -> None:
    image = Image.fromarray(np.array([[0, 256, 32768, 65535]], np.uint16))
    seen = Preprocessing((1, 4), (0.0,), (1.0,))(image)
    assert (seen * 255).round().flatten().tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize(("mode", "channels"), [("F", 3), ("F", 1), ("La", 1)])
def test_a_picture_without_an_agreed_form_is_refused(mode: str, channels: int) -> None:
    with pytest.raises(AbnFastError, match="save it"):
        Preprocessing((4, 4), (0.5,) * channels, (0.5,) * channels)(Image.new(mode, (4, 4)))


def test_four_channels_cannot_be_read_from_a_picture() -> None:
    with pytest.raises(AbnFastError, match="1 or 3 channels"):
        Preprocessing((4, 4), (0.5,) * 4, (0.5,) * 4)(noise(4, 4))


def test_survives_json() -> None:
    preprocessing = Preprocessing((40, 24), MEAN, STD, 0.875, "bicubic")
    again = Preprocessing.from_dict(json.loads(json.dumps(preprocessing.to_dict())))
    assert again == preprocessing
    assert hash(again) == hash(preprocessing)


def test_defaults_may_be_left_out_of_the_dict() -> None:
    values = {"image_size": [8, 8], "mean": [0.5], "std": [1]}
    assert Preprocessing.from_dict(values) == Preprocessing((8, 8), (0.5,), (1.0,))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": 1}, "unknown keys.*colour"),
        ({"image_size": 32}, "image_size 32"),
        ({"image_size": [32]}, "height, width"),
        ({"image_size": [32, 0]}, "height, width"),
        ({"image_size": [32.5, 32]}, "height, width"),
        ({"image_size": [True, 32]}, "image_size"),
        ({"mean": []}, "mean"),
        ({"mean": "abc"}, "mean"),
        ({"mean": [0.1, 0.2]}, "2 channels and std 3"),
        ({"mean": [0.1, 0.2, float("nan")]}, "finite"),
        ({"std": [0.1, 0.2, 0]}, "above 0"),
        ({"crop_pct": 0}, "crop_pct 0"),
        ({"crop_pct": 1.5}, "crop_pct 1.5"),
        ({"crop_pct": "all"}, "crop_pct"),
        ({"interpolation": "random"}, "'random'.*bilinear"),
        ({"interpolation": ["bilinear"]}, "interpolation"),
    ],
)
def test_malformed_values_are_told_in_one_line(changes: dict[str, Any], message: str) -> None:
    values = Preprocessing((32, 32), MEAN, STD).to_dict() | changes
    with pytest.raises(AbnFastError, match=message) as error:
        Preprocessing.from_dict(values)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("missing", ["image_size", "mean", "std"])
def test_a_missing_key_is_named(missing: str) -> None:
    values = Preprocessing((32, 32), MEAN, STD).to_dict()
    del values[missing]
    with pytest.raises(AbnFastError, match=f"lacks {missing}"):
        Preprocessing.from_dict(values)


def test_something_else_than_a_dict_is_refused() -> None:
    with pytest.raises(AbnFastError, match="expected a table"):
        Preprocessing.from_dict([1, 2])  # type: ignore[arg-type]  # the wrong type is the point
