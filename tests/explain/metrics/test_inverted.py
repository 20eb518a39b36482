import pytest
import torch

from abn_fast._errors import AbnFastError
from abn_fast.explain import inverted


def test_the_order_of_the_pixels_is_reversed() -> None:
    maps = torch.rand(3, 5, 7, dtype=torch.float64)
    assert torch.equal(inverted(maps).flatten(1).argsort(), maps.flatten(1).argsort(descending=True))


def test_each_map_keeps_its_own_range() -> None:
    maps = torch.tensor([[[0.0, 2.0, 9.0]], [[0.25, 0.5, 0.75]]])
    assert inverted(maps).tolist() == [[[9.0, 7.0, 0.0]], [[0.75, 0.5, 0.25]]]


def test_nan_is_refused() -> None:
    with pytest.raises(AbnFastError, match="NaN"):
        inverted(torch.full((1, 2, 2), torch.nan))
