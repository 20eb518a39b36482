"""Attention maps that a person has edited, in files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from abn_fast import AbnFastError
from abn_fast.data import EditedMap, Preprocessing, read_edited_map
from abn_fast.data.edited_map import on_map, on_picture

MAP = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)


def known(values: torch.Tensor) -> EditedMap:
    return EditedMap(values, torch.ones_like(values))


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16", "P"])
def test_grey_pictures_of_every_kind_are_the_same_map(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "map.png"
    if mode == "I;16":
        Image.fromarray((MAP * 65535).round().astype(np.uint16)).save(path)
    else:
        Image.fromarray((MAP * 255).round().astype(np.uint8)).convert(mode).save(path)
    edited = read_edited_map(path)
    np.testing.assert_allclose(edited.values, MAP, atol=0.5 / (65535 if mode == "I;16" else 255) + 1e-6)
    assert edited.values.dtype == torch.float32
    assert bool((edited.known == 1).all())


def test_a_numpy_file_is_read_as_it_is(tmp_path: Path) -> None:
    np.save(tmp_path / "map.npy", MAP.astype(np.float64))
    assert np.array_equal(read_edited_map(tmp_path / "map.npy").values, MAP)


def test_transparent_pixels_are_unknown(tmp_path: Path) -> None:
    picture = Image.fromarray((MAP * 255).astype(np.uint8))
    alpha = np.full((3, 4), 255, np.uint8)
    alpha[1, 2] = 0
    picture.putalpha(Image.fromarray(alpha))
    picture.save(tmp_path / "map.png")
    assert torch.equal(read_edited_map(tmp_path / "map.png").known, torch.from_numpy(alpha / np.float32(255)))


def write(path: Path, content: object) -> Path:
    if isinstance(content, Image.Image):
        content.save(path)
    elif isinstance(content, np.ndarray):
        np.save(path, content)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("map.png", None, "does not exist"),
        ("map.npy", None, "does not exist"),
        ("map.png", b"no picture", "corrupt or not a picture"),
        ("map.npy", b"no array", "no NumPy array"),
        ("map.png", Image.new("RGB", (4, 3), (200, 0, 0)), "is coloured; expected grey"),
        ("map.npy", MAP + 0.5, r"values in \[0.5, 1.5\]; expected numbers in \[0, 1\]"),
        ("map.npy", MAP - 0.5, r"values in \[-0.5, 0.5\]"),
        ("map.npy", MAP * np.nan, "NaN or infinite"),
        ("map.npy", MAP.astype(np.int64), r"int64 \[3, 4\]; expected floating-point \[H, W\]"),
        ("map.npy", MAP[None], r"float32 \[1, 3, 4\]"),
        ("map.npy", MAP[:0], "no values"),
    ],
)
def test_what_is_no_map_is_refused_in_one_line(name: str, content: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(AbnFastError, match=message) as refusal:
        read_edited_map(write(tmp_path / name, content))
    assert name in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_map_of_the_pictures_size_is_averaged_over_what_each_cell_shows() -> None:
    values = torch.rand(20, 24, generator=torch.Generator().manual_seed(0))
    small = on_map(known(values), (20, 24), (2, 3), (6.0, 4.0, 18.0, 16.0), "map")
    cells = values[4:16, 6:18].reshape(2, 6, 3, 4).mean((1, 3))
    torch.testing.assert_close(small.values, cells)
    torch.testing.assert_close(small.known, torch.ones(2, 3))


def test_unknown_pixels_do_not_count_in_the_mean() -> None:
    values, share = torch.full((4, 4), 0.25), torch.ones(4, 4)
    values[:2], share[:2] = 1.0, 0.0  # whatever stands where it is transparent
    small = on_map(EditedMap(values, share), (4, 4), (1, 1), (0.0, 0.0, 4.0, 4.0), "map")
    torch.testing.assert_close(small.values, torch.tensor([[0.25]]))
    torch.testing.assert_close(small.known, torch.tensor([[0.5]]))


@pytest.mark.parametrize("size", [(30, 50), (64, 48), (224, 224)])
def test_a_map_laid_on_the_picture_and_back_is_the_same(size: tuple[int, int]) -> None:
    box = Preprocessing((24, 24), (0.5,) * 3, (0.5,) * 3, crop_pct=0.875).crop_box(size[1], size[0])
    edited = known(torch.rand(3, 3, generator=torch.Generator().manual_seed(1)))
    whole = on_picture(edited, size, (3, 3), box, "map")
    assert whole.size == size
    assert 0 < float(whole.known.mean()) < 1  # around what the network sees it says nothing
    back = on_map(whole, size, (3, 3), box, "map")
    torch.testing.assert_close(back.values, edited.values, atol=0.05, rtol=0)  # a pixel may lie in two cells
    assert float(back.known.min()) > 0.9


def test_other_sizes_are_refused_with_both_that_are_taken() -> None:
    for resized in (on_map, on_picture):
        with pytest.raises(AbnFastError, match=r"map 'm' has 5x6 pixels .* expected 2x3, .* or 20x24"):
            resized(known(torch.rand(5, 6)), (20, 24), (2, 3), (0.0, 0.0, 24.0, 20.0), "m")
