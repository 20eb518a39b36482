"""The kernels of norm_relu_pool on CPU tensors, by TRITON_INTERPRET=1 pytest and the name of this file."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
import triton.language as tl
from torch import Tensor
from torch.autograd import gradcheck

from abn_fast import kernels
from abn_fast.kernels import reference
from abn_fast.kernels.norm_relu_pool import _launch, _plan, _triton
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

EPS = 1e-5
SHAPES = [(2, 3, 1, 1), (3, 5, 5, 7)]
LARGER = [(1, 2, 1, 2), (2, 18, 7, 7), (2, 6, 14, 14), (1, 4, 3, 37), (2, 2, 30, 40)]
Call = Callable[..., Any]


def calls(module: Any) -> dict[str, Call]:
    return {
        "batch": lambda x, w, b: module.norm_relu_pool(x, w, b, EPS)[0],
        "affine": module.norm_relu_pool_affine,
    }


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def make_inputs(
    shape: tuple[int, ...], dtype: torch.dtype, memory_format: torch.memory_format = torch.contiguous_format
) -> tuple[Tensor, ...]:
    vector = reference.accumulator(dtype)
    x = (torch.randn(shape) + 0.5).to(dtype).contiguous(memory_format=memory_format)
    inputs = (x, torch.randn(shape[1], dtype=vector), torch.randn(shape[1], dtype=vector) / 2)
    return tuple(x.requires_grad_() for x in inputs)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize(
    "shape", [*SHAPES, *(pytest.param(shape, marks=pytest.mark.slow) for shape in LARGER)], ids=str
)
def test_results_and_gradients_are_those_of_the_definition(
    shape: tuple[int, ...], memory_format: torch.memory_format, dtype: torch.dtype
) -> None:
    inputs = make_inputs(shape, dtype, memory_format)
    for form in ("batch", "affine"):
        ours, torchs = (results(calls(module)[form], inputs) for module in (kernels, reference))
        truth = results(calls(reference)[form], exact(inputs))
        assert_accurate(ours, torchs, truth, largest(form, inputs, truth))
        assert ours[1].is_contiguous(memory_format=memory_format)


def largest(form: str, inputs: tuple[Tensor, ...], truth: list[Tensor]) -> list[Tensor | None]:
    """The magnitudes of what cancels: of a sum's terms, and of the two terms of x - mean."""
    x, weight, bias = (each.detach()[..., None, None] if each.ndim == 1 else each.detach() for each in exact(inputs))
    var, mean = torch.var_mean(x, (0, 2, 3), correction=0, keepdim=True)
    r = (var + EPS).rsqrt()
    value, size = ((x - mean) * r, (x.abs() + mean.abs()) * r) if form == "batch" else (x, x.abs())
    active = value * weight + bias > 0
    projection = torch.randn(truth[0].shape, generator=torch.Generator().manual_seed(1)).double()
    d_active = active * projection.abs()[..., None, None] / active[0, 0].numel()
    d_weight, d_bias = ((d_active * each).sum((0, 2, 3), keepdim=True) for each in (size, torch.ones_like(size)))
    d_x = d_active * weight.abs()
    if form == "batch":
        d_x = (d_x + (d_bias + d_weight * size) * weight.abs() * weight.numel() / x.numel()) * r
    pooled = (active * (size * weight.abs() + bias.abs())).mean((2, 3))
    return [pooled.max(), d_x.max(), d_weight.max(), d_bias.max()]


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_gradients_are_the_differences_of_the_outputs(memory_format: torch.memory_format) -> None:
    inputs = make_inputs((2, 2, 1, 2), torch.float64, memory_format)
    for call in calls(kernels).values():
        assert gradcheck(call, inputs)


def test_statistics_are_those_of_the_batch_and_have_no_gradient() -> None:
    x, weight, bias = make_inputs((3, 4, 5, 5), torch.float64)
    _, statistics = kernels.norm_relu_pool(x, weight, bias, EPS)
    var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    torch.testing.assert_close(tuple(statistics), (mean.detach(), var.detach()), rtol=1e-12, atol=1e-12)
    assert not statistics.mean.requires_grad
    assert not statistics.var.requires_grad


@pytest.mark.parametrize("form", ["batch", "affine"])
def test_weights_of_zero_have_gradients(form: str) -> None:
    x, weight, bias = make_inputs((3, 4, 5, 5), torch.float64)
    inputs = (x, torch.zeros_like(weight).requires_grad_(), bias)
    for ours, theirs in zip(
        results(calls(kernels)[form], inputs), results(calls(reference)[form], inputs), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("division", [{"block_c": 2, "block_p": 8}, {"block_c": 4, "block_p": 4}], ids=str)
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_any_division_into_programs_gives_the_same(
    memory_format: torch.memory_format, division: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def divided(batch: int, channels: int, pixels: int, itemsize: int, last: bool, tile: int) -> _plan.Plan:
        plan = replace(_plan.make_plan(batch, channels, pixels, itemsize, last, tile), **division)
        blocks, chunks = -(-channels // plan.block_c), -(-pixels // plan.block_p)
        return replace(plan, width=1 if last else 4, blocks=blocks, chunks=chunks)

    inputs = make_inputs((2, 5, 5, 7), torch.float64, memory_format)
    monkeypatch.setattr(_launch, "make_plan", divided)
    for form in ("batch", "affine"):
        expected = results(calls(reference)[form], inputs)
        for ours, theirs in zip(results(calls(kernels)[form], inputs), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("view", VIEWS)
def test_strided_views_give_the_same(view: str) -> None:
    x, *_ = make_inputs((2, 6, 4, 5), torch.float64)
    vectors = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    inputs = (VIEWS[view](x.detach()).requires_grad_(), vectors)
    for form in ("batch", "affine"):
        ours, theirs = (results(partial(with_columns, calls(module)[form]), inputs) for module in (kernels, reference))
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def with_columns(call: Call, x: Tensor, vectors: Tensor) -> Tensor:
    pooled: Tensor = call(x, vectors[:, 0], vectors[:, 1])
    return pooled


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_without_gradients_the_result_is_the_same_and_nothing_is_saved(memory_format: torch.memory_format) -> None:
    x, scale, shift = (each.detach() for each in make_inputs((2, 6, 7, 7), torch.float64, memory_format))
    expected = reference.norm_relu_pool_affine(x, scale, shift)
    torch.testing.assert_close(kernels.norm_relu_pool_affine(x, scale, shift), expected, rtol=1e-12, atol=1e-12)
    pooled, statistics = kernels.norm_relu_pool(x, scale, shift, EPS)
    torch.testing.assert_close(pooled, reference.norm_relu_pool(x, scale, shift, EPS)[0], rtol=1e-12, atol=1e-12)
    assert statistics.mean.shape == (6,)


@pytest.mark.parametrize("form", ["batch", "affine"])
def test_what_is_never_active_is_zero_without_a_sign(form: str) -> None:
    pooled = calls(kernels)[form](torch.randn(2, 2, 2, 2), torch.tensor([1.0, -1.0]), torch.full((2,), -100.0))
    assert torch.equal(pooled, torch.zeros(2, 2))
    assert not pooled.signbit().any()


@pytest.mark.parametrize("trains", [False, True])
def test_a_nan_reaches_the_result(trains: bool) -> None:
    x = torch.zeros(2, 3, 2, 2)
    x[1, 2, 0, 0] = torch.nan
    pooled = kernels.norm_relu_pool_affine(x.requires_grad_(trains), torch.ones(3), torch.ones(3))
    assert pooled.isnan().nonzero().tolist() == [[1, 2]]


def test_an_empty_batch_has_empty_results_and_gradients_of_zero() -> None:
    inputs = make_inputs((0, 3, 4, 5), torch.float32)
    pooled = kernels.norm_relu_pool_affine(*inputs)
    assert pooled.shape == (0, 3)
    d_x, d_scale, d_shift = torch.autograd.grad(pooled.sum(), inputs)
    assert d_x.shape == (0, 3, 4, 5)
    assert d_scale.tolist() == d_shift.tolist() == [0, 0, 0]


def test_the_same_input_gives_the_same_bits() -> None:
    inputs = make_inputs((3, 6, 7, 7), torch.float32)
    first, second = (results(calls(kernels)["batch"], inputs) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_second_derivative_is_refused() -> None:
    inputs = make_inputs((2, 2, 2, 2), torch.float64)
    for call in calls(kernels).values():
        (d_x,) = torch.autograd.grad(call(*inputs).square().sum(), inputs[0], create_graph=True)
        with pytest.raises(ValueError, match="norm_relu_pool has no second derivative"):
            d_x.sum().backward()


@pytest.mark.parametrize(
    ("form", "memory_format"),
    [
        ("batch", torch.contiguous_format),
        pytest.param("batch", torch.channels_last, marks=pytest.mark.slow),
        ("affine", torch.contiguous_format),
        ("affine", torch.channels_last),
    ],
    ids=str,
)
def test_traffic_is_at_most_1_05_of_the_floor_and_uses_its_sectors(
    form: str, memory_format: torch.memory_format
) -> None:
    x = torch.zeros(32, 256, 16, 16, dtype=torch.float16).contiguous(memory_format=memory_format).requires_grad_()
    vectors = [torch.ones(256, requires_grad=True) for _ in range(2)]
    reads = 2 if form == "batch" else 1
    with Traffic(images=32) as forward:
        pooled = calls(kernels)[form](x, *vectors)
    projection = torch.zeros_like(pooled)
    with Traffic(images=32) as backward:
        torch.autograd.grad(pooled, (x, *vectors), projection)
    assert reads * x.nbytes < forward.bytes <= 1.05 * reads * x.nbytes
    assert 2 * x.nbytes < backward.bytes <= 1.05 * 2 * x.nbytes
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
    features, vector = torch.float16, torch.float32
    line = {"mean": vector, "var": vector, "weight": vector, "bias": vector}
    pool = {"x": features, **line, "pooled": features, "sums": vector, "counts": torch.int32}
    largest = largest_elements(_triton.pool_kernel, [last_program], pool, **constants, EPS=EPS, NORM=True, SAVES=True)
    assert largest["x"] == last
    assert largest["pooled"] == largest["sums"] == largest["counts"] == (n + 1) * channels - 1
    gradient = {"d_pooled": features, "x": features, **line, "slope": vector, "level": vector, "d_x": features}
    largest = largest_elements(_triton.gradient_kernel, [last_program], gradient, **constants, EPS=EPS, NORM=True)
    assert largest["x"] == largest["d_x"] == last
    assert largest["d_pooled"] == (n + 1) * channels - 1


def test_addresses_of_vector_gradients_do_not_wrap() -> None:
    batch, channels = 2**14, 2**18
    vectors = dict.fromkeys(["var", "weight", "d_weight", "d_bias", "slope", "level"], torch.float32)
    largest = largest_elements(
        _triton.vector_gradient_kernel,
        [channels // 16 - 1],
        {
            "d_pooled": torch.float16,
            "sums": torch.float32,
            "counts": torch.uint8,
            **vectors,
            "batch": batch,
            "values": 1,
        },
        C=channels,
        P=1,
        BLOCK_N=2**12,
        BLOCK_C=16,
        EPS=EPS,
        NORM=True,
        ACC=tl.float32,
    )
    assert largest["d_pooled"] == largest["sums"] == largest["counts"] == batch * channels - 1
