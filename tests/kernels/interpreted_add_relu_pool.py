"""The kernels of add_relu_pool on CPU tensors, by TRITON_INTERPRET=1 pytest and the name of this file."""

import pytest
import torch
import triton.language as tl
from torch import Tensor
from torch.autograd import gradcheck

from abn_fast import kernels
from abn_fast.kernels import reference
from abn_fast.kernels.add_relu_pool import _triton
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

SHAPES = [(2, 3, 1, 1), (3, 5, 5, 7), (1, 4, 3, 37)]
LARGER = [(2, 18, 7, 7), (2, 6, 14, 14), (1, 2, 30, 40)]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def make_inputs(
    shape: tuple[int, ...], dtype: torch.dtype, memory_format: torch.memory_format = torch.contiguous_format
) -> tuple[Tensor, Tensor]:
    x, residual = (torch.randn(shape).to(dtype).contiguous(memory_format=memory_format) for _ in range(2))
    return x.requires_grad_(), residual.requires_grad_()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize(
    "shape", [*SHAPES, *(pytest.param(shape, marks=pytest.mark.slow) for shape in LARGER)], ids=str
)
def test_results_and_gradients_are_those_of_the_definition(
    shape: tuple[int, ...], memory_format: torch.memory_format, dtype: torch.dtype
) -> None:
    inputs = make_inputs(shape, dtype, memory_format)
    ours, torchs = (results(module.add_relu_pool, inputs) for module in (kernels, reference))
    assert_accurate(ours, torchs, results(reference.add_relu_pool, exact(inputs)))
    assert ours[1].is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_gradients_are_the_differences_of_the_outputs(memory_format: torch.memory_format) -> None:
    assert gradcheck(kernels.add_relu_pool, make_inputs((2, 2, 1, 2), torch.float64, memory_format))


@pytest.mark.parametrize("both", [False, True], ids=["residual", "both"])
@pytest.mark.parametrize("view", VIEWS)
def test_strided_views_give_the_same(view: str, both: bool) -> None:
    x, residual = (each.detach() for each in make_inputs((2, 6, 4, 5), torch.float64))
    inputs = ((VIEWS[view](x) if both else x).requires_grad_(), VIEWS[view](residual).requires_grad_())
    expected = results(reference.add_relu_pool, inputs)
    for ours, theirs in zip(results(kernels.add_relu_pool, inputs), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_leaves_that_accumulate_the_one_gradient_do_not_share_it() -> None:
    x, residual = make_inputs((2, 3, 2, 2), torch.float64)
    kernels.add_relu_pool(x, residual).sum().backward()
    assert x.grad is not None
    assert residual.grad is not None
    before = residual.grad.clone()
    x.grad.add_(1)
    assert torch.equal(residual.grad, before)


def test_a_nan_reaches_the_result() -> None:
    x, residual = torch.zeros(2, 2, 3, 2, 2).unbind()
    x[1, 2, 0, 0] = torch.nan
    assert kernels.add_relu_pool(x, residual).isnan().nonzero().tolist() == [[1, 2]]


def test_an_empty_batch_has_empty_results_and_gradients() -> None:
    inputs = make_inputs((0, 3, 4, 5), torch.float32)
    pooled = kernels.add_relu_pool(*inputs)
    assert pooled.shape == (0, 3)
    assert [d.shape for d in torch.autograd.grad(pooled.sum(), inputs)] == [(0, 3, 4, 5)] * 2


def test_a_second_derivative_is_refused() -> None:
    inputs = make_inputs((2, 2, 2, 2), torch.float64)
    (d_x,) = torch.autograd.grad(kernels.add_relu_pool(*inputs).square().sum(), inputs[0], create_graph=True)
    with pytest.raises(ValueError, match="add_relu_pool has no second derivative"):
        d_x.sum().backward()


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_traffic_is_at_most_1_05_of_the_floor_and_uses_its_sectors(memory_format: torch.memory_format) -> None:
    x, residual = (
        torch.zeros(32, 256, 16, 16, dtype=torch.float16).contiguous(memory_format=memory_format).requires_grad_()
        for _ in range(2)
    )
    with Traffic(images=32) as forward:
        pooled = kernels.add_relu_pool(x, residual)
    projection = torch.zeros_like(pooled)
    with Traffic(images=32) as backward:
        torch.autograd.grad(pooled, (x, residual), projection)
    assert 2 * x.nbytes < forward.bytes <= 1.05 * 2 * x.nbytes
    assert 3 * x.nbytes < backward.bytes <= 1.05 * 3 * x.nbytes
    for traffic in (forward, backward):
        assert traffic.sector_use >= 0.9
        assert traffic.programs is not None
        assert traffic.programs >= 128


# N - 1, C, H * W
BEYOND = [(5, 2**15, 2**15), (1, 2**17, 2**15), (2**18, 16, 2**14), (2**20, 2**12, 1)]


@pytest.mark.parametrize(("n", "channels", "pixels"), BEYOND)
@pytest.mark.parametrize("channels_last", [False, True])
def test_addresses_beyond_2_to_the_31_do_not_wrap(channels_last: bool, n: int, channels: int, pixels: int) -> None:
    block_c, block_p = 16, min(pixels, 1024)
    blocks = channels // block_c
    constants = {
        "C": channels,
        "P": pixels,
        "BLOCK_C": block_c,
        "BLOCK_P": block_p,
        "W": 1 if channels_last else min(pixels, 32),
        "BLOCKS": blocks,
        "CHUNKS": pixels // block_p,
        "LAST": channels_last,
        "ACC": tl.float32,
    }
    last_program, last = (n + 1) * blocks - 1, (n + 1) * channels * pixels - 1
    pool = dict.fromkeys(["x", "residual", "pooled"], torch.float16)
    largest = largest_elements(_triton.pool_kernel, [last_program], pool, **constants)
    assert largest == {"x": last, "residual": last, "pooled": (n + 1) * channels - 1}
    gradient = dict.fromkeys(["d_pooled", "x", "residual", "d_sum"], torch.float16)
    largest = largest_elements(_triton.gradient_kernel, [last_program], gradient, **constants)
    assert largest == {"d_pooled": (n + 1) * channels - 1, "x": last, "residual": last, "d_sum": last}
