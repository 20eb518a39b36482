import pytest
import torch
from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.explain.metrics import agreement, rank_correlation, shift_agreement


def brightness(images: Tensor) -> Tensor:
    return images.mean(1)


def test_agreement_is_the_mean_over_all_pairs() -> None:
    maps = [torch.rand(4, 6, 6) for _ in range(3)]
    pairs = [rank_correlation(maps[a], maps[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    torch.testing.assert_close(agreement(maps), torch.stack(pairs).mean(0))
    torch.testing.assert_close(agreement([maps[0]] * 4), torch.ones(4))


def test_a_map_that_moves_with_the_image_agrees_and_one_that_stays_does_not() -> None:
    images = torch.rand(5, 3, 12, 12)
    torch.testing.assert_close(shift_agreement(brightness, images), torch.ones(5))
    torch.testing.assert_close(shift_agreement(brightness, images, shifts=[(-1, 3), (4, -2)]), torch.ones(5))
    fixed = torch.rand(5, 12, 12)
    assert float(shift_agreement(lambda x: fixed, images).mean()) < 0.5


def test_one_map_and_a_shift_out_of_the_image_are_refused() -> None:
    with pytest.raises(AbnFastError, match="agreement of 1 map"):
        agreement([torch.rand(1, 4, 4)])
    with pytest.raises(AbnFastError, match=r"shifts \(\(0, 4\),\): expected \(down, right\) smaller than 4 x 4"):
        shift_agreement(brightness, torch.rand(1, 3, 4, 4), shifts=[(0, 4)])
