import io
import itertools
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

from abn_fast._errors import AbnFastError
from abn_fast.data import DigitsInTheWild
from abn_fast.explain import contact_sheet

GREEN, RED = (0, 120, 60), (200, 30, 30)


def arguments(n: int, side: int = 48) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    return {
        "images": torch.rand(n, 3, side, side, generator=generator),
        "maps": torch.rand(n, 1, 6, 6, generator=generator),
        "labels": [str(index) for index in range(n)],
        "predictions": [str(index) for index in range(n)],
        "confidences": [0.5] * n,
    }


def holds(sheet: Image.Image, colour: tuple[int, int, int]) -> bool:
    return bool((np.abs(np.asarray(sheet).astype(int) - colour).max(-1) <= 2).any())


def position_of(tile: np.ndarray, sheet: np.ndarray, tolerance: float) -> tuple[int, int] | None:
    windows = np.lib.stride_tricks.sliding_window_view(sheet[..., 0], tile.shape[:2])
    close = np.argwhere((np.abs(windows[:, :, ::8, ::8] - tile[::8, ::8, 0]) <= tolerance).all((2, 3)))
    for row, column in close:
        window = sheet[row : row + tile.shape[0], column : column + tile.shape[1]]
        if np.abs(window - tile).max() <= tolerance:
            return int(row), int(column)
    return None


def test_image_map_and_overlay_stand_side_by_side_in_reading_order() -> None:
    given = arguments(5)
    sheet = np.asarray(contact_sheet(**given, columns=2, tile=64)).astype(float)
    places = []
    for image, one in zip(given["images"], given["maps"][:, 0], strict=True):
        levels = Image.fromarray((image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))
        enlarged = np.asarray(levels.resize((64, 64), Image.Resampling.BICUBIC)).astype(float)
        laid = np.asarray(Image.fromarray(one.numpy()).resize((64, 64), Image.Resampling.BILINEAR))
        colours = matplotlib.colormaps["jet"]((laid - laid.min()) / np.ptp(laid))[..., :3] * 255
        found = [position_of(tile, sheet, 12) for tile in (enlarged, colours, (enlarged + colours) / 2)]
        places.append([place for place in found if place])
        assert len(places[-1]) == 3
    rows = [[place[0] for place in found] for found in places]
    columns = [[place[1] for place in found] for found in places]
    assert all(len(set(row)) == 1 for row in rows)
    assert all(right - left >= 64 for found in columns for left, right in itertools.pairwise(found))
    assert rows[0] == rows[1] < rows[2] == rows[3] < rows[4]
    assert columns[0] == columns[2] == columns[4]
    assert columns[1] == columns[3]
    assert columns[0][2] < columns[1][0]


def test_a_right_prediction_is_green_and_a_wrong_one_red() -> None:
    given = arguments(1) | {"images": torch.zeros(1, 3, 48, 48), "colormap": "gray"}
    right, wrong = contact_sheet(**given), contact_sheet(**(given | {"predictions": ["9"]}))
    assert (holds(right, GREEN), holds(right, RED)) == (True, False)
    assert (holds(wrong, GREEN), holds(wrong, RED)) == (False, True)


@pytest.mark.parametrize("change", [{"labels": ["7"]}, {"predictions": ["8"]}, {"confidences": [0.9]}])
def test_label_prediction_and_confidence_are_readable(change: dict[str, Any]) -> None:
    given = arguments(1) | {"labels": ["3"], "predictions": ["5"]}
    before, after = (np.asarray(contact_sheet(**(given | one))) for one in ({}, change))
    rows = np.flatnonzero((before != after).any((1, 2)))
    assert rows.size > 0
    assert rows.min() > 80  # below the tiles


def test_long_labels_run_neither_into_the_confidence_nor_out_of_their_cell() -> None:
    long = {"labels": ["spotted salamander " * 40] * 2, "predictions": ["spotted salamander " * 40] * 2}
    usual, crowded = (np.asarray(contact_sheet(**(arguments(2) | names))) for names in ({}, long))
    assert (usual != crowded).any()
    columns = np.flatnonzero((usual != crowded).any((0, 2)))
    confidence, cell, margin = 24, 3 * 80 + 4, 16
    for left in (margin, 2 * margin + cell):
        assert not set(columns) & set(range(left + cell - confidence, left + cell + margin))


def test_tiles_keep_the_shape_of_the_images() -> None:
    given = arguments(1) | {"images": torch.rand(1, 3, 40, 80)}
    assert contact_sheet(**arguments(1), tile=120).height - contact_sheet(**given, tile=120).height == 60


def test_one_image_needs_one_column() -> None:
    assert contact_sheet(**arguments(1), columns=4).width < contact_sheet(**arguments(2), columns=4).width


def test_16_photographs_fit_into_300_kilobytes() -> None:
    pytest.importorskip("sklearn")
    data = DigitsInTheWild("test", 16)
    images = data.preprocessing.denormalize(torch.stack([data[index][0] for index in range(16)]))
    y, x = torch.meshgrid(torch.linspace(-3, 3, 12), torch.linspace(-3, 3, 12), indexing="ij")
    noise = torch.rand(16, 12, 12, generator=torch.Generator().manual_seed(0))
    maps = torch.exp(-(x**2) - y**2) + 0.3 * noise
    file = io.BytesIO()
    contact_sheet(**(arguments(16) | {"images": images, "maps": maps})).save(file, "PNG", optimize=True)
    assert file.tell() < 300_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["a"]}, "2 images, 2 maps, 1 labels"),
        ({"maps": torch.rand(3, 6, 6)}, "2 images, 3 maps"),
        ({"images": torch.rand(0, 3, 8, 8)}, "0 images"),
        ({"columns": 0}, "0 columns"),
        ({"images": torch.rand(2, 3, 8, 8) * 255}, "denormalize"),
        ({"images": torch.rand(3, 8, 8)}, r"expected RGB \[N, 3, H, W\]"),
        ({"maps": torch.full((2, 6, 6), torch.nan)}, "NaN"),
    ],
)
def test_bad_input_is_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(AbnFastError, match=message) as error:
        contact_sheet(**(arguments(2) | change))
    assert "\n" not in str(error.value)
