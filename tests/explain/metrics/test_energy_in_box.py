import numpy as np
import pytest
import torch

from abn_fast._errors import AbnFastError
from abn_fast.explain import energy_in_box


def test_it_is_the_sum_over_the_box_over_the_sum() -> None:
    random = np.random.default_rng(0)
    maps = random.random((20, 9, 13))
    boxes = np.stack([random.integers(0, 6, 20), random.integers(0, 4, 20)] * 2, 1)
    boxes[:, 2:] += random.integers(1, 6, (20, 2))
    expected = []
    for one, (x0, y0, x1, y1) in zip(maps, boxes, strict=True):
        inside = sum(one[row, column] for row in range(y0, y1) for column in range(x0, x1))
        expected.append(inside / one.sum())
    energy = energy_in_box(torch.from_numpy(maps), torch.from_numpy(boxes))
    np.testing.assert_allclose(energy.numpy(), expected, rtol=1e-12)


def test_a_constant_map_scores_the_share_of_the_area() -> None:
    energy = energy_in_box(torch.full((1, 10, 20), 0.7), torch.tensor([[5, 2, 15, 6]]))
    torch.testing.assert_close(energy, torch.tensor([40 / 200]))


def test_it_reaches_exactly_its_bounds() -> None:
    maps = torch.zeros(2, 8, 8)
    maps[:, 2:4, 2:4] = torch.rand(2, 2, 2) + 0.1
    assert energy_in_box(maps, torch.tensor([[2, 2, 4, 4], [4, 4, 8, 8]])).tolist() == [1, 0]


def test_a_map_of_zeros_scores_0() -> None:
    assert energy_in_box(torch.zeros(1, 4, 4), torch.tensor([[0, 0, 4, 4]])).tolist() == [0]


@pytest.mark.parametrize("factor", [1e-3, 40.0])
def test_the_scale_of_an_unbounded_map_does_not_matter(factor: float) -> None:
    maps, box = torch.rand(1, 6, 6), torch.tensor([[1, 1, 4, 5]])
    torch.testing.assert_close(energy_in_box(factor * maps, box), energy_in_box(maps, box))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bit_maps_are_summed_in_float32(dtype: torch.dtype) -> None:
    maps, box = torch.rand(1, 200, 200).to(dtype), torch.tensor([[20, 20, 90, 120]])
    energy = energy_in_box(maps, box)
    assert energy.dtype == torch.float32
    torch.testing.assert_close(energy.double(), energy_in_box(maps.double(), box), rtol=1e-5, atol=0)


def test_negative_values_are_refused() -> None:
    with pytest.raises(AbnFastError, match=r"maps go down to -0\.5; energy needs values of at least 0"):
        energy_in_box(torch.full((1, 4, 4), -0.5), torch.tensor([[0, 0, 2, 2]]))


def test_a_box_outside_the_map_is_refused() -> None:
    with pytest.raises(AbnFastError, match="lies outside the 4 x 4 map"):
        energy_in_box(torch.rand(1, 4, 4), torch.tensor([[0, 0, 5, 2]]))
