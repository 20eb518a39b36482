import numpy as np
import pytest
import torch

from abn_fast._errors import AbnFastError
from abn_fast.explain import inverted, pointing_game, upsample


def peaked(row: int, column: int, height: int = 6, width: int = 8) -> torch.Tensor:
    maps = torch.rand(1, height, width, generator=torch.Generator().manual_seed(0)) / 2
    maps[0, row, column] = 1
    return maps


def test_a_box_holds_its_first_row_and_column_and_not_those_after_its_last() -> None:
    box = torch.tensor([[3, 2, 5, 4]])  # columns 3 and 4, rows 2 and 3
    hits = {(row, column) for row in range(6) for column in range(8) if pointing_game(peaked(row, column), box)}
    assert hits == {(2, 3), (2, 4), (3, 3), (3, 4)}


def test_it_agrees_with_argmax_on_maps_without_ties() -> None:
    random = np.random.default_rng(0)
    maps = random.permuted(np.arange(200 * 12 * 9.0).reshape(200, -1), axis=1).reshape(200, 12, 9)
    x0, y0 = random.integers(0, 5, 200), random.integers(0, 6, 200)
    x1, y1 = x0 + random.integers(1, 5, 200), y0 + random.integers(1, 7, 200)
    expected = []
    for index in range(200):
        row, column = divmod(maps[index].argmax(), 9)
        expected.append(x0[index] <= column < x1[index] and y0[index] <= row < y1[index])
    hits = pointing_game(torch.from_numpy(maps), torch.from_numpy(np.stack([x0, y0, x1, y1], 1)))
    assert hits.dtype == torch.bool
    assert hits.tolist() == expected
    assert 0 < sum(expected) < 200


def test_a_tie_hits_only_if_all_maxima_lie_in_the_box() -> None:
    maps = torch.zeros(2, 4, 4)
    maps[0, 1, 1] = maps[0, 1, 2] = 1
    maps[1, 1, 1] = maps[1, 3, 3] = 1
    assert pointing_game(maps, torch.tensor([[1, 1, 3, 3]] * 2)).tolist() == [True, False]


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_constant_map_misses_every_box_but_the_whole_image(value: float) -> None:
    maps = torch.full((3, 10, 10), value)
    boxes = torch.tensor([[0, 0, 10, 9], [0, 0, 1, 1], [0, 0, 10, 10]])
    assert pointing_game(maps, boxes).tolist() == [False, False, True]


def test_rounding_in_upsampling_does_not_let_constant_maps_hit() -> None:
    values = torch.linspace(0.01, 0.99, 50)
    maps = upsample(values[:, None, None].expand(50, 7, 7), (48, 48))
    random = np.random.default_rng(0)
    corners = torch.from_numpy(random.integers(0, 30, (50, 2)))
    assert not pointing_game(maps, torch.cat([corners, corners + 18], 1)).any()


def test_an_inverted_peak_misses() -> None:
    maps, box = peaked(2, 3), torch.tensor([[3, 2, 5, 4]])
    assert pointing_game(maps, box).all()
    assert not pointing_game(inverted(maps), box).any()


def test_a_box_between_pixels_holds_those_whose_centre_it_holds() -> None:
    boxes = torch.tensor(
        [[2.6, 2.0, 5.0, 4.0], [2.4, 2.0, 5.0, 4.0], [1.0, 2.0, 2.4, 4.0], [1, 2, 2.5, 4], [2.5, 2, 4, 4]]
    )
    assert pointing_game(peaked(2, 2).expand(5, 6, 8), boxes).tolist() == [False, True, False, False, True]


def test_no_maps_give_no_hits() -> None:
    assert pointing_game(torch.rand(0, 4, 4), torch.rand(0, 4)).shape == (0,)


@pytest.mark.parametrize(
    ("maps", "box", "message"),
    [
        (torch.rand(4, 4), [0, 0, 1, 1], r"maps have shape \[4, 4\], expected \[N, H, W\]"),
        (torch.rand(1, 1, 4, 4), [0, 0, 1, 1], r"maps\[:, 0\]"),
        (torch.rand(2, 4, 4), [0, 0, 1, 1], r"boxes have shape \[1, 4\], expected \[2, 4\]"),
        (torch.rand(1, 4, 4), [0, 0, 1], r"boxes have shape \[1, 3\]"),
        (torch.full((1, 4, 4), torch.nan), [0, 0, 1, 1], "NaN"),
        (torch.rand(1, 4, 4), [2, 2, 2, 3], r"box 0 \(2, 2, 2, 3\) holds no pixel"),
        (torch.rand(1, 4, 4), [3, 1, 2, 3], "holds no pixel"),
        (torch.rand(1, 4, 6), [0, 0, 6, 5], r"box 0 \(0, 0, 6, 5\) lies outside the 6 x 4 map"),
        (torch.rand(1, 4, 4), [-1, 0, 2, 2], "lies outside"),
        (torch.rand(1, 4, 4), [0, 0, float("nan"), 2], "lies outside"),
    ],
)
def test_bad_input_is_refused_in_one_line(maps: torch.Tensor, box: list[float], message: str) -> None:
    with pytest.raises(AbnFastError, match=message) as error:
        pointing_game(maps, torch.tensor([box]))
    assert "\n" not in str(error.value)


def test_the_first_bad_box_is_named() -> None:
    boxes = torch.tensor([[0, 0, 2, 2], [0, 0, 9, 2], [0, 0, 9, 9]])
    with pytest.raises(AbnFastError, match=r"box 1 \(0, 0, 9, 2\)"):
        pointing_game(torch.rand(3, 4, 4), boxes)
