import pytest
import torch

from abn_fast._errors import AbnFastError
from abn_fast.explain import inverted
from abn_fast.explain.metrics import rank_correlation


@pytest.mark.parametrize("levels", [4, 1000])
def test_it_is_scipy_s_with_ties_and_without(levels: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    first = (torch.rand(6, 9, 7) * levels).round()
    second = ((torch.rand(6, 9, 7) + first / levels) * levels).round()
    expected = [stats.spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(first, second, strict=True)]
    torch.testing.assert_close(rank_correlation(first, second), torch.tensor(expected, dtype=torch.float32))


def test_order_alone_counts() -> None:
    maps = torch.rand(3, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(rank_correlation(maps, maps.exp()), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(rank_correlation(maps, inverted(maps)), -torch.ones(3, dtype=torch.float64))


def test_a_constant_map_tells_nothing() -> None:
    assert rank_correlation(torch.rand(1, 5, 5), torch.ones(1, 5, 5)).tolist() == [0]


def test_maps_of_other_sizes_are_refused() -> None:
    with pytest.raises(AbnFastError, match=r"shapes \[1, 4, 4\] and \[1, 5, 5\], expected the same"):
        rank_correlation(torch.rand(1, 4, 4), torch.rand(1, 5, 5))
