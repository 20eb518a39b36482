"""The kernels of norm_class_conv on CPU tensors, by TRITON_INTERPRET=1 pytest and the name of this file."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import triton.language as tl
from torch import Tensor
from torch.autograd import gradcheck

from abn_fast import kernels
from abn_fast.kernels import Statistics, _tuning, reference
from abn_fast.kernels.norm_class_conv import _launch, _triton
from abn_fast.kernels.norm_class_conv._plain import Norm
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
batch_norm_class_conv: Any = kernels.batch_norm_class_conv
norm_class_conv: Any = kernels.norm_class_conv
# N, C', K, H, W
SHAPES = [(2, 3, 5, 1, 1), (3, 20, 7, 3, 5), (2, 37, 18, 7, 7), (1, 8, 1, 14, 14)]
UNFUSED = {"fused": 0, "block_channels": 64, "block_pixels": 64, "block_classes": 16, "num_warps": 4, "num_stages": 2}


@pytest.fixture(params=[False, True], ids=["product of torch", "product of ours"])
def fused(request: pytest.FixtureRequest) -> Iterator[bool]:
    rows = [{"kernel": "norm_class_conv.input_gradient", "configuration": {**UNFUSED, "fused": int(request.param)}}]
    with _tuning.use(rows):
        yield request.param


def make_inputs(
    shape: tuple[int, ...], dtype: torch.dtype, memory_format: torch.memory_format = torch.contiguous_format
) -> tuple[Tensor, ...]:
    """Stage output, weight, and the norm's weight and bias; the channels' means differ."""
    batch, channels, classes, *size = shape
    vector = reference.accumulator(dtype)
    f = torch.randn(batch, channels, *size) + torch.linspace(-1, 2, channels)[:, None, None]
    weight = torch.randn(classes, channels, 1, 1).to(dtype) / channels**0.5
    vectors = torch.rand(channels, dtype=vector) + 0.5, torch.randn(channels, dtype=vector)
    inputs = (f.to(dtype).contiguous(memory_format=memory_format), weight, *vectors)
    return tuple(x.requires_grad_() for x in inputs)


def fused_op(*inputs: Tensor) -> Tensor:
    z: Tensor = batch_norm_class_conv(*inputs, EPS).z
    return z


def normalised_op(*inputs: Tensor) -> Tensor:
    z, lacking, _ = batch_norm_class_conv(*inputs, EPS, normalised_next=True)
    return normalised(z + lacking[:, None, None])


def normalised(z: Tensor) -> Tensor:
    return F.batch_norm(z, None, None, training=True, eps=0.1)


def layers(f: Tensor, weight: Tensor, norm_weight: Tensor, norm_bias: Tensor) -> Tensor:
    return F.conv2d(F.batch_norm(f, None, None, norm_weight, norm_bias, training=True, eps=EPS), weight)


def magnitudes(inputs: tuple[Tensor, ...]) -> list[Tensor | None]:
    """The largest sum of the magnitudes of terms that z, the gradients of weights and of the norm's bias sum up."""
    f, weight, norm_weight, norm_bias = exact(inputs)
    generator = torch.Generator().manual_seed(1)
    z = layers(f, weight, norm_weight, norm_bias)
    d_z = torch.randn(z.shape, generator=generator).to(inputs[0].dtype).double()
    normed = F.batch_norm(f, None, None, norm_weight, norm_bias, training=True, eps=EPS)
    plain = F.batch_norm(f, None, None, training=True, eps=EPS)
    scale = norm_weight / (f.var((0, 2, 3), correction=0) + EPS).sqrt()
    d_normed = F.conv_transpose2d(d_z.abs(), weight.abs())
    product = F.conv2d((f * scale[:, None, None]).abs(), weight.abs())
    d_weight = torch.einsum("nkhw,nchw->kc", d_z.abs(), normed.abs())
    return [x.detach().max() for x in (
        product,
        d_normed * scale.abs()[:, None, None],
        d_weight,
        (d_normed * plain.abs()).sum((0, 2, 3)),
        d_normed.sum((0, 2, 3)),
    )]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_outputs_and_gradients_are_as_exact_as_those_of_two_layers(
    shape: tuple[int, ...], memory_format: torch.memory_format, dtype: torch.dtype, fused: bool
) -> None:
    inputs = make_inputs(shape, dtype, memory_format)
    ours, theirs, truth = results(fused_op, inputs), results(layers, inputs), results(layers, exact(inputs))
    assert_accurate(ours, theirs, truth, magnitudes(inputs))
    assert ours[0].is_contiguous(memory_format=memory_format)
    assert ours[1].is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_a_norm_that_follows_takes_away_what_z_lacks(memory_format: torch.memory_format) -> None:
    inputs = make_inputs((3, 20, 7, 3, 5), torch.float64, memory_format)
    truth = results(lambda *x: normalised(layers(*x)), inputs)
    for ours, expected in zip(results(normalised_op, inputs), truth, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_gradients_are_the_differences_of_the_outputs(memory_format: torch.memory_format, fused: bool) -> None:
    inputs = make_inputs((2, 2, 2, 1, 3), torch.float64, memory_format)
    assert gradcheck(fused_op, inputs)


def test_gradients_reach_given_statistics() -> None:
    inputs = make_inputs((2, 2, 2, 1, 2), torch.float64)
    statistics = (torch.randn(2).double().requires_grad_(), (torch.rand(2).double() + 0.5).requires_grad_())
    assert gradcheck(lambda *x: norm_class_conv(*x[:4], Statistics(*x[4:]), EPS), (*inputs, *statistics))


@pytest.mark.parametrize("view", VIEWS)
def test_strided_views_give_the_same(view: str, fused: bool) -> None:
    f, *rest = make_inputs((2, 6, 5, 4, 5), torch.float64)
    inputs = (VIEWS[view](f.detach()).requires_grad_(), *rest)
    for ours, expected in zip(results(fused_op, inputs), results(layers, inputs), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)


def test_float32_weights_of_a_16_bit_product_have_float32_gradients() -> None:
    f, *rest = (x.detach() for x in make_inputs((2, 20, 7, 3, 5), torch.float32))
    inputs = tuple(x.requires_grad_() for x in (f.to(torch.bfloat16), *rest))
    with torch.autocast("cpu", torch.bfloat16):
        ours = results(fused_op, inputs)
        theirs = results(layers, inputs)
    truth = results(layers, exact(inputs))
    assert [x.dtype for x in ours] == [torch.bfloat16] * 2 + [torch.float32] * 3
    for value, other, true in zip(ours, theirs, truth, strict=True):
        error, allowed = (value.double() - true).abs().max(), (other.double() - true).abs().max()
        assert error <= 2 * allowed + torch.finfo(torch.bfloat16).eps * true.abs().max()


def test_the_shift_belongs_to_the_rounded_weights() -> None:
    f = torch.randn(2, 20, 3, 5).half()
    weight, norm_weight, norm_bias = torch.randn(7, 20), torch.rand(20) + 0.5, torch.randn(20)
    mean, var = 50 * torch.rand(20), torch.rand(20) + 0.5
    folded, shift = _launch.fold(f, weight, Norm(norm_weight, norm_bias, mean, var, EPS), torch.float16)
    exact = weight.double() * (norm_weight.double() / (var.double() + EPS).sqrt())
    torch.testing.assert_close(folded.double(), exact, rtol=2**-11, atol=1e-6)
    expected = weight.double() @ norm_bias.double() - folded.double() @ mean.double()
    torch.testing.assert_close(shift.double(), expected, rtol=0, atol=1e-4)
    assert not torch.allclose(weight.double() @ norm_bias.double() - exact @ mean.double(), expected, rtol=0, atol=1e-3)


def test_an_empty_batch_has_empty_results() -> None:
    inputs = make_inputs((0, 3, 5, 2, 2), torch.float32)
    statistics = Statistics(torch.zeros(3), torch.ones(3))
    z = norm_class_conv(*inputs, statistics, EPS)
    assert z.shape == (0, 5, 2, 2)
    gradients = torch.autograd.grad(z.sum(), inputs)
    assert [d.shape for d in gradients] == [x.shape for x in inputs]
    assert not any(d.any() for d in gradients)


def test_the_same_input_gives_the_same_bits(fused: bool) -> None:
    inputs = make_inputs((2, 37, 18, 7, 7), torch.float32)
    for first, second in zip(*(results(fused_op, inputs) for _ in range(2)), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize(("channels", "size"), [(256, 14), (64, 16)])
def test_the_pass_over_the_input_moves_three_tensors(
    channels: int, size: int, memory_format: torch.memory_format
) -> None:
    f = torch.randn(2, channels, size, size).contiguous(memory_format=memory_format)
    d_normed, vector = torch.randn_like(f), torch.rand(channels)
    with Traffic() as traffic:
        _launch.add_statistics_gradient(d_normed, f, Norm(vector, vector, vector, vector, EPS), vector, vector)
    assert 3 * f.nbytes <= traffic.bytes <= 3.05 * f.nbytes
    assert traffic.sector_use >= 0.9


def test_backward_keeps_the_stage_output_and_vectors() -> None:
    f, *rest = make_inputs((2, 20, 7, 3, 5), torch.float32)
    kept: list[Tensor] = []

    def keep(x: Tensor) -> Tensor:
        kept.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        batch_norm_class_conv(f, *rest, EPS)
    known = {x.data_ptr() for x in (f, *rest)}
    assert sum(x.nbytes for x in kept if x.data_ptr() not in known) == 2 * 20 * 4


@pytest.mark.parametrize(("n", "channels", "classes", "pixels"), [(5, 2**15, 2**15, 2**15), (2**18, 64, 32, 2**14)])
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
def test_addresses_beyond_2_to_the_31_do_not_wrap(last: bool, n: int, channels: int, classes: int, pixels: int) -> None:
    tensors: dict[str, Any] = dict.fromkeys(
        ["d_x", "x", "norm_weight", "mean", "var", "d_mean", "d_var"], torch.float32
    )
    sizes = {"C": channels, "P": pixels, "LAST": last, "BLOCK_C": 16, "BLOCK_P": 32, "ACC": tl.float32}
    blocks, tiles = channels // 16, pixels // 32
    programs, count = (n + 1) * blocks * tiles, {"eps": EPS, "count": (n + 1) * pixels}
    kernel = _triton.statistics_gradient_kernel
    seen = largest_elements(kernel, [programs - 1], {**tensors, **count}, **sizes, BLOCKS_C=blocks, BLOCKS_P=tiles)
    assert seen["x"] == seen["d_x"] == (n + 1) * channels * pixels - 1
    assert seen["mean"] == channels - 1

    tensors = {"d_z": torch.float32, "weight": torch.float32} | {name: tensors[name] for name in list(tensors)[1:]}
    tensors |= {"d_x": torch.float32, **count}
    dot = {"K": classes, "BLOCK_K": classes // 2, "OPERAND": tl.float32, "PRECISION": "ieee"}
    seen = largest_elements(_triton.input_gradient_kernel, [programs - 1], tensors, **sizes, **dot, BLOCKS=blocks)
    assert seen["x"] == seen["d_x"] == (n + 1) * channels * pixels - 1
    assert seen["d_z"] == (n + 1) * classes * pixels - 1
    assert seen["weight"] == classes * channels - 1


def test_weights_beyond_2_to_the_31_do_not_wrap() -> None:
    vectors: dict[str, Any] = dict.fromkeys(["norm_weight", "norm_bias", "mean", "var"], torch.float32)
    sizes = {"K": 2**14, "C": 2**18, "ACC": tl.float32}
    fold = {"weight": torch.float32, **vectors, "folded": torch.float32, "shift": torch.float32, "eps": EPS}
    seen = largest_elements(_triton.fold_kernel, [2**14 - 1], fold, BLOCK_K=1, BLOCK_C=2**17, **sizes)
    assert seen["weight"] == seen["folded"] == 2**32 - 1
    gradients = ["d_weight", "d_norm_weight", "d_norm_bias", "d_mean", "d_var"]
    backward = {"d_folded": torch.float32, "d_shift": torch.float32, "weight": torch.float32, **vectors}
    backward |= {**dict.fromkeys(gradients, torch.float32), "eps": EPS}
    seen = largest_elements(_triton.weight_gradients_kernel, [2**14 - 1], backward, BLOCK_K=2**13, BLOCK_C=16, **sizes)
    assert seen["weight"] == seen["d_weight"] == seen["d_folded"] == 2**32 - 1
