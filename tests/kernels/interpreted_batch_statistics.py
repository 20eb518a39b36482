"""The kernels of batch_statistics on CPU tensors, by TRITON_INTERPRET=1 pytest and the name of this file."""

from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter
from typing import Any

import pytest
import torch
import triton.language as tl
from torch import Tensor
from torch.autograd import gradcheck

from abn_fast import kernels
from abn_fast.kernels import reference
from abn_fast.kernels.batch_statistics import _launch, _plan, _triton
from abn_fast.proofs.traffic import Traffic
from tests.kernels._addresses import largest_elements
from tests.kernels._interpreted import (  # noqa: F401 - pytest finds fixtures by name
    DTYPES,
    FORMATS,
    VIEWS,
    _poisoned,
    assert_accurate,
    exact,
    results,
)

SHAPES = [(1, 2, 1, 2), (3, 5, 5, 7)]
LARGER = [(2, 3, 1, 1), (2, 18, 7, 7), (3, 6, 14, 14), (1, 4, 3, 37), (1, 2, 30, 40)]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def make_input(shape: tuple[int, ...], dtype: torch.dtype, memory_format: torch.memory_format) -> Tensor:
    return (3 * torch.randn(shape) + 1).to(dtype).contiguous(memory_format=memory_format).requires_grad_()


def statistics_of(module: Any) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    return lambda x: tuple(module.batch_statistics(x))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize(
    "shape", [*SHAPES, *(pytest.param(shape, marks=pytest.mark.slow) for shape in LARGER)], ids=str
)
def test_statistics_and_gradients_are_those_of_the_definition(
    shape: tuple[int, ...], memory_format: torch.memory_format, dtype: torch.dtype
) -> None:
    x = make_input(shape, dtype, memory_format)
    ours, torchs = (results(statistics_of(module), [x]) for module in (kernels, reference))
    magnitude = x.detach().double().abs().mean((0, 2, 3)).max()  # of what cancels in the mean
    assert_accurate(ours, torchs, results(statistics_of(reference), exact([x])), [magnitude])
    assert ours[2].is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_gradients_are_the_differences_of_the_outputs(memory_format: torch.memory_format) -> None:
    assert gradcheck(statistics_of(kernels), make_input((2, 2, 1, 2), torch.float64, memory_format))


@pytest.mark.parametrize("used", ["mean", "var"])
def test_one_statistic_alone_has_a_gradient(used: str) -> None:
    x = make_input((3, 2, 2, 2), torch.float64, torch.contiguous_format)
    select = attrgetter(used)
    ours = results(lambda x: select(kernels.batch_statistics(x)), [x])
    expected = results(lambda x: select(reference.batch_statistics(x)), [x])
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_a_mean_far_above_the_deviation_does_not_cancel_the_variance(memory_format: torch.memory_format) -> None:
    x = (torch.randn(4, 3, 8, 8) * 0.1 + 300).contiguous(memory_format=memory_format)
    expected = x.double().var((0, 2, 3), correction=0)
    torch.testing.assert_close(kernels.batch_statistics(x).var.double(), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_a_first_tile_unlike_the_rest_does_not_harm_the_variance(
    memory_format: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    divide(monkeypatch, block_p=16, splits=1)
    x = torch.randn(6, 2, 8, 8)
    x[0, :, :2] += 1000
    x = x.contiguous(memory_format=memory_format)
    expected = x.double().var((0, 2, 3), correction=0)
    torch.testing.assert_close(kernels.batch_statistics(x).var.double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("division", [{"block_c": 2, "block_p": 8, "splits": 3}, {"block_p": 4, "splits": 7}], ids=str)
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_any_division_into_programs_gives_the_same(
    memory_format: torch.memory_format, division: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    x = make_input((3, 5, 5, 7), torch.float64, memory_format)
    expected = results(statistics_of(reference), [x])
    divide(monkeypatch, **division)
    for ours, theirs in zip(results(statistics_of(kernels), [x]), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def divide(monkeypatch: pytest.MonkeyPatch, splits: int, **blocks: int) -> None:
    """Have launches divided into other blocks, and into so many splits."""

    def divided(batch: int, channels: int, pixels: int, itemsize: int, last: bool, *rest: int) -> _plan.Plan:
        plan = replace(_plan.make_plan(batch, channels, pixels, itemsize, last, *rest), **blocks)
        chunks = 1 if last else -(-pixels // plan.block_p)
        total = -(-batch * pixels // plan.block_p) if last else batch * chunks
        steps = -(-total // splits)
        width = 1 if last else min(plan.width, plan.block_p)
        blocks_c = -(-channels // plan.block_c)
        splits_used = -(-total // steps)
        return _plan.Plan(plan.block_c, plan.block_p, width, blocks_c, chunks, total, steps, splits_used)

    monkeypatch.setattr(_launch, "make_plan", divided)


@pytest.mark.parametrize("view", VIEWS)
def test_strided_views_give_the_same(view: str) -> None:
    x = VIEWS[view](torch.randn(2, 6, 4, 5, dtype=torch.float64)).requires_grad_()
    expected = results(statistics_of(reference), [x])
    for ours, theirs in zip(results(statistics_of(kernels), [x]), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_the_same_input_gives_the_same_bits() -> None:
    x = make_input((3, 6, 7, 7), torch.float32, torch.contiguous_format)
    first, second = (results(statistics_of(kernels), [x]) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_second_derivative_is_refused() -> None:
    x = make_input((2, 2, 2, 2), torch.float64, torch.contiguous_format)
    (d_x,) = torch.autograd.grad(kernels.batch_statistics(x).var.sum(), x, create_graph=True)
    with pytest.raises(ValueError, match="batch_statistics has no second derivative"):
        d_x.sum().backward()


@pytest.mark.parametrize(
    ("memory_format", "dtype", "channels"),
    [
        (torch.contiguous_format, torch.float16, 256),
        pytest.param(torch.channels_last, torch.float16, 256, marks=pytest.mark.slow),
        (torch.contiguous_format, torch.float32, 100),
        (torch.channels_last, torch.float32, 100),
    ],
    ids=str,
)
def test_traffic_is_that_of_the_floor(memory_format: torch.memory_format, dtype: torch.dtype, channels: int) -> None:
    x = torch.zeros(32, channels, 16, 16, dtype=dtype).contiguous(memory_format=memory_format).requires_grad_()
    with Traffic(images=32) as forward:
        mean, var = kernels.batch_statistics(x)
    with Traffic(images=32) as backward:
        torch.autograd.grad((mean, var), x, (mean.detach(), var.detach()))
    # 100 channels that follow one another: 128 programs of whole rows have more partial sums
    limit = 1.035 if channels == 100 else 1.03
    assert x.nbytes < forward.bytes <= limit * x.nbytes
    assert 2 * x.nbytes < backward.bytes <= 1.01 * 2 * x.nbytes
    for traffic in (forward, backward):
        assert traffic.sector_use >= 0.9
        assert traffic.programs is not None
        assert traffic.programs >= 128


@pytest.mark.parametrize(("n", "channels", "pixels"), [(5, 2**15, 2**15), (1, 2**17, 2**15), (2**18, 16, 2**14)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_addresses_beyond_2_to_the_31_do_not_wrap(channels_last: bool, n: int, channels: int, pixels: int) -> None:
    images, block_c, block_p, steps = n + 1, 16, 512, 2
    values, blocks = images * pixels, channels // block_c
    total = values // block_p
    last_program = blocks * -(-total // steps) - 1
    divided = {"values": values, "total": total, "steps": steps}
    constants = {
        "C": channels,
        "P": pixels,
        "BLOCK_C": block_c,
        "BLOCK_P": block_p,
        "W": 1 if channels_last else 32,
        "BLOCKS": blocks,
        "CHUNKS": 1 if channels_last else pixels // block_p,
        "LAST": channels_last,
        "ACC": tl.float32,
    }
    features, vector = torch.float16, torch.float32
    last = images * channels * pixels - 1
    partial = {"x": features, "partials": vector, **divided}
    largest = largest_elements(_triton.partial_kernel, [last_program], partial, **constants)
    assert largest == {"x": last, "partials": total // steps * 2 * channels - 1}
    gradient = {"x": features, "mean": vector, "d_mean": vector, "d_var": vector, "d_x": features, **divided}
    largest = largest_elements(_triton.gradient_kernel, [last_program], gradient, **constants)
    assert largest["x"] == largest["d_x"] == last
    assert largest["mean"] == largest["d_mean"] == largest["d_var"] == channels - 1
