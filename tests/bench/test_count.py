from functools import partial

import pytest
import torch
from torch import nn

from bench._count import exponent, launches, peak_bytes


def test_the_exponent_of_a_power_is_found_from_the_largest_points() -> None:
    costs = {x: [3.0 * x**1.7, 5.0 * x**1.7] for x in (8, 16, 64)} | {1: [1e9, 1e9]}
    found = exponent("ours", costs)
    assert [found.lower, found.median, found.upper] == pytest.approx([1.7] * 3)


def test_rounds_that_differ_spread_the_exponent() -> None:
    costs = {x: [float(x), float(x**2), float(x**3)] for x in (2, 4, 8)}
    found = exponent("ours", costs)
    assert (found.lower, found.median, found.upper) == pytest.approx((1.5, 2.0, 2.5))


def test_the_peak_is_what_is_held_at_a_time() -> None:
    x = torch.zeros(1000, 1000)

    def chain() -> torch.Tensor:
        y = x + 1
        for _ in range(5):
            y = y + 1  # the one before is freed
        return y

    def together() -> list[torch.Tensor]:
        return [x + 1 for _ in range(5)]

    assert peak_bytes(chain) == pytest.approx(2 * x.nbytes, rel=0.01)
    assert peak_bytes(together) == pytest.approx(5 * x.nbytes, rel=0.01)


def test_operators_that_compute_are_counted_and_views_are_not() -> None:
    x = torch.randn(2, 3, 4, 4)
    layers = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten())
    with torch.inference_mode():
        assert launches(partial(layers, x)) == 2
        assert launches(lambda: x.transpose(0, 1)[0].unsqueeze(0).add_(1)) == 1
