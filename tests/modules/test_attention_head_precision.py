"""16-bit heads: an error of at most twice that of torch's chain of layers, and one rounding."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from abn_fast.modules import AttentionHead, LogMapAttentionHead, NormReluPool
from tests.modules._plain_head import Head, PlainHead, make_head

DTYPES = [torch.bfloat16, torch.float16]
SEEDS = 3
Outputs = tuple[Tensor, ...]


def stage_output(seed: int) -> Tensor:
    """What a ReLU leaves of channels whose means differ, as at the end of a stage."""
    torch.manual_seed(seed)
    return (torch.randn(8, 256, 9, 7) + 2 * torch.randn(256, 1, 1)).relu()


def trained(kind: type[Head], batch: list[Tensor]) -> Head:
    """A float32 head whose running statistics are those of the batch."""
    head = make_head(kind, in_channels=256, num_classes=10).float()
    for layer in head.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    head(*batch)
    return head


def excess(ours: Outputs, torchs: Outputs, truth: Outputs, dtype: torch.dtype) -> list[float]:
    """Each output's error (root mean square) in units of what is allowed."""

    def rms(x: Tensor) -> float:
        return x.double().square().mean().sqrt().item()

    rounding = torch.finfo(dtype).eps / 2
    return [rms(o - t) / (2 * rms(p - t) + rounding * rms(t)) for o, p, t in zip(ours, torchs, truth, strict=True)]


def in_16_bit(module: nn.Module, batch: list[Tensor], dtype: torch.dtype, autocast: bool) -> Outputs:
    module = copy.deepcopy(module) if autocast else copy.deepcopy(module).to(dtype)
    with torch.no_grad(), torch.autocast("cpu", dtype, enabled=autocast):
        outputs: Outputs = module(*batch)
    return outputs


def assert_precise(
    make: Callable[[int], tuple[nn.Module, nn.Module, list[Tensor]]], dtype: torch.dtype, autocast: bool
) -> None:
    worst = []
    for seed in range(SEEDS):
        ours, plain, batch = make(seed)
        batch = [x.to(dtype) for x in batch]
        exact = copy.deepcopy(plain) if autocast else copy.deepcopy(plain).to(dtype)
        with torch.no_grad():
            truth = exact.double()(*(x.double() for x in batch))
        worst.append(
            excess(in_16_bit(ours, batch, dtype, autocast), in_16_bit(plain, batch, dtype, autocast), truth, dtype)
        )
    assert max(map(max, worst)) <= 1, worst


@pytest.mark.parametrize("autocast", [False, True], ids=["16-bit weights", "autocast"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("kind", [AttentionHead, LogMapAttentionHead])
def test_a_head_is_as_precise_as_its_layers_in_torch(
    kind: type[Head], training: bool, dtype: torch.dtype, autocast: bool
) -> None:
    def make(seed: int) -> tuple[nn.Module, nn.Module, list[Tensor]]:
        f = stage_output(seed)
        batch = [f, torch.randn_like(f[:, :16])]
        head = trained(kind, batch).train(training)
        return head, PlainHead(head), batch

    assert_precise(make, dtype, autocast)


class _PlainPool(nn.Module):
    def __init__(self, pool: NormReluPool) -> None:
        super().__init__()
        self.bn = copy.deepcopy(pool.bn)

    def forward(self, x: Tensor) -> Outputs:
        return (self.bn(x).relu().mean((2, 3)),)


class _Tupled(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Outputs:
        return (self.module(x),)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_a_norm_relu_pool_is_as_precise_as_its_layers_in_torch(training: bool, dtype: torch.dtype) -> None:
    def make(seed: int) -> tuple[nn.Module, nn.Module, list[Tensor]]:
        f = stage_output(seed)
        pool = NormReluPool(256)
        pool.bn.momentum = 1.0
        pool(f)
        pool.train(training)
        return _Tupled(pool), _PlainPool(pool), [f]

    assert_precise(make, dtype, autocast=False)
