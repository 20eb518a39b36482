import copy

import pytest
import torch
from torch import Tensor, nn

from abn_fast.modules import GlobalAveragePool, NormReluPool


class PlainPool(nn.Module):
    """Batch norm, ReLU and mean, on a copy of a pool's norm."""

    def __init__(self, pool: NormReluPool) -> None:
        super().__init__()
        self.bn = copy.deepcopy(pool.bn)

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.bn(x).relu().mean((2, 3))
        return pooled


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def pools() -> tuple[NormReluPool, PlainPool]:
    pool = NormReluPool(6).double()
    nn.init.uniform_(pool.bn.weight, 0.5, 1.5)
    nn.init.normal_(pool.bn.bias)
    return pool, PlainPool(pool)


def assert_same_step(pool: NormReluPool, plain: PlainPool) -> None:
    x = (torch.randn(3, 6, 4, 5, dtype=torch.float64) + 1).requires_grad_()
    ours, expected = pool(x), plain(x)
    projection = torch.randn_like(expected)
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)
    for a, b in zip(
        torch.autograd.grad(ours, (x, *pool.parameters()), projection),
        torch.autograd.grad(expected, (x, *plain.parameters()), projection),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(pool.state_dict(), plain.state_dict(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
def test_norm_relu_pool_is_batch_norm_relu_and_mean(momentum: float | None) -> None:
    pool, plain = pools()
    pool.bn.momentum = plain.bn.momentum = momentum
    for _ in range(3):
        assert_same_step(pool, plain)
    assert_same_step(pool.eval(), plain.eval())


def test_a_frozen_norm_uses_and_keeps_its_running_statistics() -> None:
    pool, plain = pools()
    assert_same_step(pool, plain)
    pool.bn.eval()
    plain.bn.eval()
    before = {key: value.clone() for key, value in pool.bn.named_buffers()}
    assert_same_step(pool, plain)
    assert all(torch.equal(value, before[key]) for key, value in pool.bn.named_buffers())


def test_global_average_pool_is_the_mean_over_the_pixels() -> None:
    x = torch.randn(2, 3, 5, 7)
    torch.testing.assert_close(GlobalAveragePool()(x), nn.AdaptiveAvgPool2d(1)(x).flatten(1))
