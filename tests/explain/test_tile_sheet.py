import numpy as np
import pytest
from PIL import Image

from abn_fast._errors import AbnFastError
from abn_fast.explain import Tile, tile_sheet

RED, BLUE = (250, 0, 0), (0, 0, 250)


def tile(colour: tuple[int, int, int], caption: str = "", size: tuple[int, int] = (40, 30)) -> Tile:
    return Tile(Image.new("RGB", size, colour), caption)


def box_of(sheet: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero((np.asarray(sheet) == colour).all(-1))
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def test_rows_and_columns_are_where_they_were_given() -> None:
    sheet = tile_sheet([[tile(RED), tile((0, 9, 0))], [tile((0, 0, 9)), tile(BLUE)]])
    red, blue = box_of(sheet, RED), box_of(sheet, BLUE)
    assert (red[2] - red[0], red[3] - red[1]) == (40, 30)
    assert red[2] < blue[0]
    assert red[3] < blue[1]
    assert box_of(sheet, (0, 9, 0))[:2] == (blue[0], red[1])
    assert box_of(sheet, (0, 0, 9))[:2] == (red[0], blue[1])


@pytest.mark.parametrize("below", ["", "a much too long caption for so small a tile"])
def test_a_caption_stands_under_its_tile_and_a_heading_above(below: str) -> None:
    sheet = tile_sheet([[tile(RED, below), tile(BLUE)]], ["", "head"])
    left, _, right, bottom = box_of(sheet, RED)
    ink = np.argwhere((np.asarray(sheet) < 120).all(-1))
    under = [(row, column) for row, column in ink if row >= bottom]
    assert bool(under) == bool(below)
    assert all(left <= column < right for _, column in under)
    above = [(row, column) for row, column in ink if row < box_of(sheet, BLUE)[1]]
    assert above
    assert all(box_of(sheet, BLUE)[0] <= column < box_of(sheet, BLUE)[2] for _, column in above)


@pytest.mark.parametrize("rows", [[], [[]], [[tile(RED), tile(BLUE, size=(9, 9))]]])
def test_pictures_of_several_sizes_or_none_are_refused(rows: list[list[Tile]]) -> None:
    with pytest.raises(AbnFastError, match="expected one or more pictures, all of one size"):
        tile_sheet(rows)
