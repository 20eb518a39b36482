"""Each op against the chain of torch layers that it stands for."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import gradcheck

from abn_fast import kernels
from abn_fast.kernels import Gate, Statistics

EPS = 1e-5
N, C_STAGE, C, K, T, H, W = 3, 6, 5, 4, 3, 5, 7
GATES: tuple[Gate, ...] = ("residual", "product")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def randn(*shape: int, mean: float = 0.0) -> Tensor:
    return (torch.randn(*shape, dtype=torch.float64) + mean).requires_grad_()


def scales(size: int) -> Tensor:
    return (torch.rand(size, dtype=torch.float64) + 0.5).requires_grad_()


def norm_layer(weight: Tensor, bias: Tensor, statistics: Statistics | None = None) -> nn.BatchNorm2d:
    """A torch batch norm: on batch statistics, or in evaluation on given ones."""
    norm = nn.BatchNorm2d(len(weight), EPS).double()
    norm.weight.data.copy_(weight)
    norm.bias.data.copy_(bias)
    if statistics is not None:
        norm.running_mean = statistics.mean.detach().double()
        norm.running_var = statistics.var.detach().double()
        norm.eval()
    return norm


def gradients(outputs: tuple[Tensor, ...], inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Gradients of a fixed random projection of the outputs."""
    generator = torch.Generator().manual_seed(1)
    projections = [torch.randn(o.shape, dtype=torch.float64, generator=generator) for o in outputs]
    return torch.autograd.grad(outputs, inputs, projections)


def assert_same(
    ours: tuple[Tensor, ...],
    expected: tuple[Tensor, ...],
    inputs: tuple[Tensor, ...],
    expected_inputs: tuple[Tensor, ...] | None = None,
) -> None:
    """Equal values and equal gradients."""
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    for a, b in zip(gradients(ours, inputs), gradients(expected, expected_inputs or inputs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def given_statistics(channels: int) -> Statistics:
    return Statistics(torch.randn(channels, dtype=torch.float64), torch.rand(channels, dtype=torch.float64) + 0.5)


def test_norm_scale_shift_is_batch_norm_in_evaluation() -> None:
    x, weight, bias, statistics = randn(N, C, H, W), scales(C), randn(C), given_statistics(C)
    scale, shift = kernels.norm_scale_shift(weight, bias, statistics, EPS)
    expected = norm_layer(weight, bias, statistics)(x)
    torch.testing.assert_close(x * scale[:, None, None] + shift[:, None, None], expected)


@pytest.mark.parametrize("batch", [True, False], ids=["batch", "running"])
def test_norm_class_conv_is_batch_norm_then_convolution(batch: bool) -> None:
    f, weight = randn(N, C_STAGE, H, W, mean=2), randn(K, C_STAGE, 1, 1)
    norm_weight, norm_bias = scales(C_STAGE), randn(C_STAGE)
    statistics = kernels.batch_statistics(f) if batch else given_statistics(C_STAGE)
    z = kernels.norm_class_conv(f, weight, norm_weight, norm_bias, statistics, EPS)
    norm = norm_layer(norm_weight, norm_bias, None if batch else statistics)
    expected = F.conv2d(norm(f), weight)
    assert_same((z,), (expected,), (f, weight, norm_weight, norm_bias), (f, weight, norm.weight, norm.bias))


def test_class_evidence_is_batch_norm_relu_pool_and_map_conv() -> None:
    z, weight, bias, map_weight = randn(N, K, H, W, mean=1), scales(K), randn(K), randn(1, K, 3, 3)
    evidence, statistics = kernels.class_evidence(z, weight, bias, map_weight, EPS)
    norm = norm_layer(weight, bias)
    a = F.relu(norm(z))
    assert_same(
        evidence,
        (F.adaptive_avg_pool2d(a, 1).flatten(1), F.conv2d(a, map_weight, padding=1)),
        (z, weight, bias, map_weight),
        (z, norm.weight, norm.bias, map_weight),
    )
    var, mean = torch.var_mean(z, (0, 2, 3), correction=0)
    torch.testing.assert_close(tuple(statistics), (mean, var), rtol=1e-12, atol=1e-12)


def test_class_evidence_log_map_is_batch_norm_relu_pool_and_sum_of_logs() -> None:
    z, weight, bias = randn(N, K, H, W, mean=1), scales(K), randn(K)
    evidence, statistics = kernels.class_evidence_log_map(z, weight, bias, EPS)
    norm = norm_layer(weight, bias)
    a = F.relu(norm(z))
    expected = (a.mean((2, 3)), torch.log(1 + a).sum(1, keepdim=True))
    assert_same(evidence, expected, (z, weight, bias), (z, norm.weight, norm.bias))
    var, mean = torch.var_mean(z, (0, 2, 3), correction=0)
    torch.testing.assert_close(tuple(statistics), (mean, var), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("log_map", [False, True])
def test_class_evidence_of_known_statistics_is_batch_norm_in_evaluation(log_map: bool) -> None:
    z, weight, bias, map_weight = randn(N, K, H, W, mean=1), scales(K), randn(K), randn(1, K, 3, 3)
    statistics = given_statistics(K)
    scale, shift = kernels.norm_scale_shift(weight, bias, statistics, EPS)
    norm = norm_layer(weight, bias, statistics)
    a = F.relu(norm(z))
    if log_map:
        ours = kernels.class_evidence_log_map_affine(z, scale, shift)
        assert_same(
            ours,
            (a.mean((2, 3)), torch.log(1 + a).sum(1, keepdim=True)),
            (z, weight, bias),
            (z, norm.weight, norm.bias),
        )
    else:
        ours = kernels.class_evidence_affine(z, scale, shift, map_weight)
        expected = (a.mean((2, 3)), F.conv2d(a, map_weight, padding=1))
        assert_same(ours, expected, (z, weight, bias, map_weight), (z, norm.weight, norm.bias, map_weight))


@pytest.mark.parametrize("log_map", [False, True])
def test_class_evidence_of_folded_norms_is_that_of_the_norms(log_map: bool) -> None:
    f, weight, map_weight = randn(N, C_STAGE, H, W, mean=1), randn(K, C_STAGE, 1, 1), randn(1, K, 3, 3)
    statistics1, statistics2 = given_statistics(C_STAGE), given_statistics(K)
    norm1 = norm_layer(scales(C_STAGE), randn(C_STAGE), statistics1)
    norm2 = norm_layer(scales(K), randn(K), statistics2)
    a = F.relu(norm2(F.conv2d(norm1(f), weight)))

    scale1, scale2 = norm1.weight / (statistics1.var + EPS).sqrt(), norm2.weight / (statistics2.var + EPS).sqrt()
    shift1, shift2 = norm1.bias - scale1 * statistics1.mean, norm2.bias - scale2 * statistics2.mean
    folded = torch.diag(scale2) @ weight.flatten(1) @ torch.diag(scale1)
    folded_bias = scale2 * (weight.flatten(1) @ shift1) + shift2
    if log_map:
        ours = kernels.class_evidence_log_map_inference(f, folded[..., None, None], folded_bias)
        assert_same(ours, (a.mean((2, 3)), torch.log(1 + a).sum(1, keepdim=True)), (f, weight, norm1.weight))
    else:
        ours = kernels.class_evidence_inference(f, folded[..., None, None], folded_bias, map_weight)
        assert_same(ours, (a.mean((2, 3)), F.conv2d(a, map_weight, padding=1)), (f, weight, map_weight, norm1.weight))


def test_average_pool_commutes_with_the_evidence_convolution() -> None:
    a, weight = randn(N, K, H, W), randn(K, K, 1, 1)
    ours = F.linear(kernels.global_average_pool(a), weight.flatten(1))
    assert_same((ours,), (F.conv2d(a, weight).mean((2, 3)),), (a, weight))


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("maps", [1, T])
def test_attention_gate_is_batch_norm_sigmoid_and_product(gate: Gate, maps: int) -> None:
    features, score, weight, bias = randn(N, C, H, W), randn(N, maps, H, W), scales(maps), randn(maps)
    statistics = given_statistics(maps)
    scale, shift = kernels.norm_scale_shift(weight, bias, statistics, EPS)
    ours = kernels.attention_gate(features, score, scale, shift, gate)
    norm = norm_layer(weight, bias, statistics)
    attention = torch.sigmoid(norm(score))
    gated = [
        features[n] * (1 + attention[n, t]) if gate == "residual" else features[n] * attention[n, t]
        for n in range(N)
        for t in range(maps)
    ]
    assert_same(
        ours,
        (torch.stack(gated), attention),
        (features, score, weight, bias),
        (features, score, norm.weight, norm.bias),
    )


def test_maps_of_an_image_follow_one_another() -> None:
    features = torch.arange(1.0, 3)[:, None, None, None].expand(2, C, H, W)
    attention = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])[..., None, None].expand(2, 3, H, W)
    gated = kernels.gate_features(features, attention, "product")
    assert gated[:, 0, 0, 0].tolist() == [1, 2, 3, 8, 10, 12]


def test_the_gate_of_a_map_is_residual_unless_stated_otherwise() -> None:
    features, attention = randn(N, C, H, W), randn(N, 1, H, W)
    torch.testing.assert_close(kernels.gate_features(features, attention), features + features * attention)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize(("height", "width"), [(H, W), (1, 1), (1, 4), (2, 2)])
def test_the_gate_from_taps_is_the_gate_from_map_conv(gate: Gate, height: int, width: int) -> None:
    features, a = randn(N, C, height, width), randn(N, K, height, width)
    map_weight, scale, shift = randn(1, K, 3, 3), randn(1), randn(1)
    taps = kernels.map_taps(a, map_weight)
    assert taps.shape == (N, 9, height, width)
    ours = kernels.attention_gate_from_taps(features, taps, scale, shift, gate)
    expected = kernels.attention_gate(features, F.conv2d(a, map_weight, padding=1), scale, shift, gate)
    assert_same(ours, expected, (features, a, map_weight, scale, shift))


def test_norm_relu_pool_is_batch_norm_relu_and_mean() -> None:
    x, weight, bias = randn(N, C, H, W, mean=1), scales(C), randn(C)
    pooled, statistics = kernels.norm_relu_pool(x, weight, bias, EPS)
    norm = norm_layer(weight, bias)
    assert_same((pooled,), (F.relu(norm(x)).mean((2, 3)),), (x, weight, bias), (x, norm.weight, norm.bias))
    var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    torch.testing.assert_close(tuple(statistics), (mean, var), rtol=1e-12, atol=1e-12)


def test_norm_relu_pool_of_known_statistics_is_batch_norm_in_evaluation() -> None:
    x, weight, bias, statistics = randn(N, C, H, W, mean=1), scales(C), randn(C), given_statistics(C)
    pooled = kernels.norm_relu_pool_affine(x, *kernels.norm_scale_shift(weight, bias, statistics, EPS))
    norm = norm_layer(weight, bias, statistics)
    assert_same((pooled,), (F.relu(norm(x)).mean((2, 3)),), (x, weight, bias), (x, norm.weight, norm.bias))


def _normed_class_conv(f: Tensor, weight: Tensor, norm_weight: Tensor, norm_bias: Tensor) -> Tensor:
    statistics = kernels.batch_statistics(f)
    return kernels.norm_class_conv(f, weight, norm_weight, norm_bias, statistics, EPS)


def _taps_and_gate(g: Tensor, a: Tensor, w: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    return kernels.attention_gate_from_taps(g, kernels.map_taps(a, w), scale, shift, "product")


GRADCHECKS: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "norm_class_conv": (_normed_class_conv, ((2, 3, 2, 3), (2, 3, 1, 1), (3,), (3,))),
    "class_evidence": (
        lambda z, w, b, m: tuple(kernels.class_evidence(z, w, b, m, EPS)[0]),
        ((2, 3, 2, 3), (3,), (3,), (1, 3, 3, 3)),
    ),
    "class_evidence_affine": (
        lambda *x: tuple(kernels.class_evidence_affine(*x)),
        ((2, 3, 2, 3), (3,), (3,), (1, 3, 3, 3)),
    ),
    "class_evidence_inference": (
        lambda *x: tuple(kernels.class_evidence_inference(*x)),
        ((2, 3, 2, 3), (2, 3, 1, 1), (2,), (1, 2, 3, 3)),
    ),
    "class_evidence_log_map": (
        lambda z, w, b: tuple(kernels.class_evidence_log_map(z, w, b, EPS)[0]),
        ((2, 3, 2, 3), (3,), (3,)),
    ),
    "class_evidence_log_map_affine": (
        lambda *x: tuple(kernels.class_evidence_log_map_affine(*x)),
        ((2, 3, 2, 3), (3,), (3,)),
    ),
    "class_evidence_log_map_inference": (
        lambda *x: tuple(kernels.class_evidence_log_map_inference(*x)),
        ((2, 3, 2, 3), (2, 3, 1, 1), (2,)),
    ),
    "attention_gate": (partial(kernels.attention_gate, gate="residual"), ((2, 2, 2, 3), (2, 3, 2, 3), (3,), (3,))),
    "attention_gate_product": (
        partial(kernels.attention_gate, gate="product"),
        ((2, 2, 2, 3), (2, 1, 2, 3), (1,), (1,)),
    ),
    "attention_gate_from_taps": (_taps_and_gate, ((2, 2, 2, 3), (2, 3, 2, 3), (1, 3, 3, 3), (1,), (1,))),
    "norm_relu_pool": (lambda x, w, b: kernels.norm_relu_pool(x, w, b, EPS)[0], ((2, 3, 2, 3), (3,), (3,))),
    "norm_relu_pool_affine": (kernels.norm_relu_pool_affine, ((2, 3, 2, 3), (3,), (3,))),
}


@pytest.mark.parametrize("op", GRADCHECKS)
def test_gradients_are_the_differences_of_the_outputs(op: str) -> None:
    function, shapes = GRADCHECKS[op]
    assert gradcheck(function, tuple(randn(*shape) for shape in shapes))


Computed = tuple[Tensor, ...]


def _torch_norm(x: Tensor, weight: Tensor, bias: Tensor, statistics: Statistics | None = None) -> Tensor:
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    mean, var = (None, None) if statistics is None else (s.to(dtype) for s in statistics)
    return F.batch_norm(x, mean, var, weight.to(dtype), bias.to(dtype), statistics is None, 0.1, EPS)


def _torch_evidence(z: Tensor, weight: Tensor, bias: Tensor, map_weight: Tensor) -> Computed:
    a = F.relu(_torch_norm(z, weight, bias))
    return a.mean((2, 3)), F.conv2d(a, map_weight.to(a.dtype), padding=1)


def _torch_log_map(z: Tensor, weight: Tensor, bias: Tensor) -> Computed:
    a = F.relu(_torch_norm(z, weight, bias))
    return a.mean((2, 3)), torch.log(1 + a).sum(1, keepdim=True)


def _known(channels: int) -> Statistics:
    return Statistics(torch.linspace(-1, 1, channels).double(), torch.linspace(0.5, 2, channels).double())


def _torch_gate(features: Tensor, score: Tensor, weight: Tensor, bias: Tensor) -> Computed:
    attention = torch.sigmoid(_torch_norm(score, weight, bias, _known(score.shape[1])))
    return (features[:, None] * (1 + attention[:, :, None])).flatten(0, 1), attention


def _gate(features: Tensor, score: Tensor, weight: Tensor, bias: Tensor) -> Computed:
    statistics = Statistics(*(s.to(weight.dtype) for s in _known(score.shape[1])))
    return kernels.attention_gate(features, score, *kernels.norm_scale_shift(weight, bias, statistics, EPS))


def _torch_taps_gate(features: Tensor, a: Tensor, map_weight: Tensor, scale: Tensor, shift: Tensor) -> Computed:
    score = F.conv2d(a, map_weight.to(a.dtype), padding=1)
    attention = torch.sigmoid(score * scale.to(a.dtype) + shift.to(a.dtype))
    return features * (1 + attention), attention


def _taps_gate(features: Tensor, a: Tensor, map_weight: Tensor, scale: Tensor, shift: Tensor) -> Computed:
    return kernels.attention_gate_from_taps(features, kernels.map_taps(a, map_weight.to(a.dtype)), scale, shift)


def _torch_normed_class_conv(f: Tensor, weight: Tensor, norm_weight: Tensor, norm_bias: Tensor) -> Computed:
    return (F.conv2d(_torch_norm(f, norm_weight, norm_bias), weight.to(f.dtype)),)


# name: (ours, torch's chain, shapes; the feature-sized inputs come first and their count is the last entry)
PRECISION: dict[str, tuple[Callable[..., Any], Callable[..., Computed], tuple[tuple[int, ...], ...], int]] = {
    "norm_class_conv": (
        lambda *x: (_normed_class_conv(*x),),
        _torch_normed_class_conv,
        ((4, 64, 9, 7), (16, 64, 1, 1), (64,), (64,)),
        1,
    ),
    "class_evidence": (
        lambda z, w, b, m: kernels.class_evidence(z, w, b, m, EPS)[0],
        _torch_evidence,
        ((4, 32, 9, 7), (32,), (32,), (1, 32, 3, 3)),
        1,
    ),
    "class_evidence_log_map": (
        lambda z, w, b: kernels.class_evidence_log_map(z, w, b, EPS)[0],
        _torch_log_map,
        ((4, 32, 9, 7), (32,), (32,)),
        1,
    ),
    "attention_gate": (_gate, _torch_gate, ((4, 16, 9, 7), (4, 3, 9, 7), (3,), (3,)), 2),
    "attention_gate_from_taps": (
        _taps_gate,
        _torch_taps_gate,
        ((4, 16, 9, 7), (4, 32, 9, 7), (1, 32, 3, 3), (1,), (1,)),
        2,
    ),
    "norm_relu_pool": (
        lambda x, w, b: (kernels.norm_relu_pool(x, w, b, EPS)[0],),
        lambda *x: (F.relu(_torch_norm(*x)).mean((2, 3)),),
        ((4, 32, 9, 7), (32,), (32,)),
        1,
    ),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("op", PRECISION)
def test_rounding_error_is_at_most_twice_torchs_and_one_rounding(op: str, dtype: torch.dtype) -> None:
    ours, chain, shapes, features = PRECISION[op]
    exact = [torch.randn(shape, dtype=torch.float64) + (i < features) for i, shape in enumerate(shapes)]
    dtypes = [dtype if i < features else torch.float32 for i in range(len(shapes))]
    inputs = [x.to(d) for x, d in zip(exact, dtypes, strict=True)]
    expected = chain(*(x.double() for x in inputs))
    for value, theirs, truth in zip(ours(*inputs), chain(*inputs), expected, strict=True):
        error, allowed = (value.double() - truth).abs().max(), (theirs.double() - truth).abs().max()
        rounding = torch.finfo(dtype).eps * truth.abs().max()
        assert error <= 2 * allowed + rounding


def test_feature_sized_results_have_the_dtype_of_their_input() -> None:
    z, scale, shift = torch.randn(2, K, H, W, dtype=torch.bfloat16), torch.ones(K), torch.zeros(K)
    evidence = kernels.class_evidence_affine(z, scale, shift, torch.randn(1, K, 3, 3))
    assert evidence.score.dtype == torch.bfloat16
    gated, attention = kernels.attention_gate(z, evidence.score, torch.ones(1), torch.zeros(1))
    assert (gated.dtype, attention.dtype) == (torch.bfloat16, torch.bfloat16)
    assert kernels.gate_features(z, torch.rand(2, 1, H, W)).dtype == torch.bfloat16
    _, statistics = kernels.class_evidence(z, torch.ones(K), torch.zeros(K), torch.randn(1, K, 3, 3), EPS)
    assert {s.dtype for s in statistics} == {torch.float32}


def test_map_taps_take_float32_weights_for_16_bit_evidence_as_class_evidence_does() -> None:
    a, map_weight = torch.randn(2, K, H, W, dtype=torch.bfloat16), torch.randn(1, K, 3, 3)
    assert kernels.map_taps(a, map_weight).dtype == torch.bfloat16


@pytest.mark.parametrize("op", GRADCHECKS)
def test_channels_last_inputs_give_the_same_results(op: str) -> None:
    function, shapes = GRADCHECKS[op]
    inputs = [randn(*shape) for shape in shapes]
    last = [x.detach().to(memory_format=torch.channels_last) if x.ndim == 4 else x.detach() for x in inputs]
    for x in last:
        x.requires_grad_()
    ours, expected = function(*last), function(*inputs)
    wrap = (lambda y: y) if isinstance(ours, tuple) else (lambda y: (y,))
    assert_same(wrap(ours), wrap(expected), tuple(last), tuple(inputs))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_gated_features_keep_their_memory_format(memory_format: torch.memory_format) -> None:
    features = torch.randn(N, C, H, W).to(memory_format=memory_format)
    gated, _ = kernels.attention_gate(features, torch.randn(N, 1, H, W), torch.ones(1), torch.zeros(1))
    assert gated.is_contiguous(memory_format=memory_format)


def test_an_empty_batch_passes_in_inference() -> None:
    f, g = torch.empty(0, C_STAGE, H, W), torch.empty(0, C, H, W)
    weight, bias, map_weight = torch.randn(K, C_STAGE, 1, 1), torch.randn(K), torch.randn(1, K, 3, 3)
    evidence = kernels.class_evidence_inference(f, weight, bias, map_weight)
    assert (evidence.pooled.shape, evidence.score.shape) == ((0, K), (0, 1, H, W))
    assert kernels.class_evidence_log_map_inference(f, weight, bias).score.shape == (0, 1, H, W)
    gated, attention = kernels.attention_gate(g, evidence.score, torch.ones(1), torch.zeros(1))
    assert (gated.shape, attention.shape) == ((0, C, H, W), (0, 1, H, W))
    taps = kernels.map_taps(torch.empty(0, K, H, W), map_weight)
    gated, attention = kernels.attention_gate_from_taps(g, taps, torch.ones(1), torch.zeros(1))
    assert (gated.shape, attention.shape) == ((0, C, H, W), (0, 1, H, W))
    assert kernels.norm_relu_pool_affine(f, torch.ones(C_STAGE), torch.zeros(C_STAGE)).shape == (0, C_STAGE)


def test_the_weights_of_bn1_are_rounded_before_its_shift_is_computed() -> None:
    f = (torch.randn(8, 64, 9, 7) + 30).to(torch.bfloat16)
    weight = torch.randn(8, 64, 1, 1)
    weight -= weight.mean(1, keepdim=True)  # the shift is small, and so is its own rounding
    statistics = Statistics(torch.full((64,), 30.0), torch.full((64,), 0.7))
    z = kernels.norm_class_conv(f, weight, torch.ones(64), torch.zeros(64), statistics, EPS)
    folded = (weight * torch.rsqrt(statistics.var + EPS)[:, None, None]).to(torch.bfloat16)
    expected = F.conv2d(f.double() - 30, folded.double())
    rounding = torch.finfo(torch.bfloat16).eps * expected.abs().max()
    assert (z.double() - expected).abs().max() <= rounding


def test_under_autocast_the_class_scores_are_16_bit_and_their_shift_is_not_computed_in_16_bit() -> None:
    f = torch.randn(8, 512, 5, 5) + 3
    weight, norm_weight, norm_bias = torch.randn(8, 512, 1, 1), torch.ones(512), torch.randn(512)
    statistics = kernels.batch_statistics(f)

    def scores(stage_output: Tensor) -> Tensor:
        return kernels.norm_class_conv(stage_output, weight, norm_weight, norm_bias, statistics, EPS)

    with torch.autocast("cpu", torch.bfloat16):
        z = scores(f)
    assert z.dtype == torch.bfloat16
    torch.testing.assert_close(z, scores(f.to(torch.bfloat16)), rtol=0, atol=0)
