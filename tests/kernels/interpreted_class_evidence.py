"""The kernels of class_evidence on CPU tensors, by TRITON_INTERPRET=1 pytest and the name of this file."""

from collections.abc import Callable, Sequence
from itertools import product
from types import ModuleType
from typing import Any

import pytest
import torch
import triton.language as tl
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn.grad import conv2d_weight

from abn_fast import kernels
from abn_fast.kernels import reference
from abn_fast.kernels._tuning import pretend
from abn_fast.kernels.class_evidence import _plan, _triton
from abn_fast.proofs import traffic
from abn_fast.proofs.cases import CIFAR, IMAGENET, Size, cases
from tests.kernels._addresses import largest_elements
from tests.kernels._interpreted import (  # noqa: F401 - pytest finds fixtures by name
    DTYPES,
    FORMATS,
    VIEWS,
    _poisoned,
    assert_accurate,
    exact,
)

EPS = 1e-5
OPS = ["class_evidence", "class_evidence_affine", "class_evidence_log_map", "class_evidence_log_map_affine"]
# N, K, H, W
SHAPES: list[tuple[int, ...]] = [
    (2, 1, 1, 1),
    (3, 10, 1, 5),
    (2, 7, 7, 7),
    (2, 40, 5, 3),
    (2, 5, 14, 14),
    (1, 100, 4, 5),
    (1, 3, 19, 17),
    (1, 2, 2, 300),
]
# the fifth in one layout: sums over its pixels are products
FAST = [*product(SHAPES[:4], FORMATS), (SHAPES[4], torch.contiguous_format)]
SLOW = [case for case in product(SHAPES, FORMATS) if case not in FAST]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def outputs(op: str, module: ModuleType = kernels) -> Callable[..., Any]:
    """GAP(a) and the score by the op of that name."""
    function = getattr(module, op)
    if op.endswith("affine"):
        return lambda *inputs: tuple(function(*inputs))
    return lambda *inputs: tuple(function(*inputs, eps=EPS)[0])


def make_inputs(
    op: str,
    shape: tuple[int, ...],
    dtype: torch.dtype = torch.float64,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> tuple[Tensor, ...]:
    vector, classes = reference.accumulator(dtype), shape[1]
    z = (2 * torch.randn(shape) + torch.linspace(-1, 3, classes)[:, None, None]).to(dtype)
    weight, bias = torch.rand(classes, dtype=vector) + 0.5, torch.randn(classes, dtype=vector) / 2
    inputs = [z.contiguous(memory_format=memory_format), weight, bias]
    if "log_map" not in op:
        inputs.append(torch.randn(1, classes, 3, 3, dtype=vector))
    return tuple(x.requires_grad_() for x in inputs)


def results(op: Callable[..., Any], inputs: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Outputs, and gradients of a fixed random projection of them, rounded to `dtype` whatever that of the inputs."""
    found = op(*inputs)
    generator = torch.Generator().manual_seed(1)
    projections = [torch.randn(y.shape, generator=generator).to(dtype).to(y.dtype) for y in found]
    return [*found, *torch.autograd.grad(found, inputs, projections)]


def magnitudes(op: str, inputs: Sequence[Tensor]) -> list[Tensor | None]:
    """Of outputs and gradients that are sums which cancel, the largest sum of their terms' magnitudes."""
    z, scale, shift, *map_weight = exact(inputs)
    batch, _, height, width = z.shape
    mean, deviation = torch.zeros_like(scale), torch.ones_like(scale)
    if not op.endswith("affine"):
        mean, deviation = z.mean((0, 2, 3)), (z.var((0, 2, 3), correction=0) + EPS).sqrt()
    normalised = ((z - mean[:, None, None]) / deviation[:, None, None]).detach()
    a = torch.relu(normalised * scale[:, None, None] + shift[:, None, None])
    score = torch.conv2d(a, map_weight[0].abs(), padding=1) if map_weight else torch.log1p(a).sum(1)
    generator = torch.Generator().manual_seed(1)
    dtype = inputs[0].dtype
    d_pooled, d_score = (
        torch.randn(shape, generator=generator).to(dtype).double().abs()
        for shape in ((batch, z.shape[1]), (batch, 1, height, width))
    )
    d_a = d_pooled[..., None, None] / (height * width)
    d_a = d_a + (torch.conv_transpose2d(d_score, map_weight[0].abs(), padding=1) if map_weight else d_score)
    active = d_a * (a > 0)
    d_z = (d_a * (scale / deviation)[:, None, None]).max()
    found: list[Tensor | None] = [None, score.max(), d_z]
    found += [(active * normalised.abs()).sum((0, 2, 3)).max(), active.sum((0, 2, 3)).max()]
    if map_weight:
        found.append(conv2d_weight(a, map_weight[0].shape, d_score, padding=1).max())
    return [None if x is None else x.detach() for x in found]


def check(op: str, inputs: Sequence[Tensor]) -> list[Tensor]:
    dtype = inputs[0].dtype
    truth = results(outputs(op, reference), exact(inputs), dtype)
    ours = results(outputs(op), inputs, dtype)
    theirs = results(outputs(op, reference), inputs, dtype)
    assert_accurate(ours, theirs, truth, magnitudes(op, inputs))
    return ours


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("shape", "memory_format"), [*FAST, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)], ids=str
)
def test_outputs_and_gradients_are_those_of_the_definition(
    shape: tuple[int, ...], memory_format: torch.memory_format, dtype: torch.dtype
) -> None:
    # each shape, layout and dtype with one op, each op with most of them
    op = OPS[(SHAPES.index(shape) + FORMATS.index(memory_format) + DTYPES.index(dtype)) % 4]
    ours = check(op, make_inputs(op, shape, dtype, memory_format))
    assert ours[2].is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize(
    ("op", "shape", "memory_format"),
    [
        ("class_evidence", (2, 2, 2, 2), torch.contiguous_format),
        ("class_evidence_affine", (1, 2, 2, 2), torch.channels_last),
        ("class_evidence_log_map", (2, 2, 1, 3), torch.channels_last),
        ("class_evidence_log_map_affine", (1, 2, 2, 2), torch.contiguous_format),
    ],
    ids=str,
)
def test_gradients_are_the_differences_of_the_outputs(
    op: str, shape: tuple[int, ...], memory_format: torch.memory_format
) -> None:
    assert gradcheck(
        outputs(op), make_inputs(op, shape, memory_format=memory_format), fast_mode=True, check_undefined_grad=False
    )


DIVISIONS: dict[str, dict[str, Any]] = {
    "blocks of classes": {"block_classes": 16, "block_pixels": 128, "along_classes": 1, "num_warps": 4},
    "rows, along classes": {"block_classes": 16, "block_pixels": 32, "along_classes": 1, "num_warps": 4},
    "rows, along pixels": {"block_classes": 32, "block_pixels": 32, "along_classes": 0, "num_warps": 4},
    "parts of rows": {"block_classes": 16, "block_pixels": 16, "along_classes": 0, "num_warps": 4},
    "parts of rows, along classes": {"block_classes": 16, "block_pixels": 16, "along_classes": 1, "num_warps": 4},
    "one pass": {"block_classes": 32, "block_pixels": 32, "along_classes": 0, "num_warps": 4, "one_pass": 1},
    "two passes": {"block_classes": 16, "block_pixels": 128, "along_classes": 1, "num_warps": 4, "one_pass": 0},
}


@pytest.mark.parametrize(
    ("programs", "memory_format", "ops"),
    [
        pytest.param(1, FORMATS[0], ["class_evidence", "class_evidence_log_map_affine"], id="few programs"),
        pytest.param(20, FORMATS[1], ["class_evidence_affine"], id="many programs"),
        pytest.param(1, FORMATS[1], OPS, marks=pytest.mark.slow, id="few programs, all"),
        pytest.param(1000, FORMATS[0], OPS, marks=pytest.mark.slow, id="many programs, all"),
    ],
)
@pytest.mark.parametrize("division", DIVISIONS)
def test_any_division_into_programs_gives_the_same(
    division: str,
    programs: int,
    memory_format: torch.memory_format,
    ops: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen = {"one_pass": 1, **DIVISIONS[division]}
    monkeypatch.setattr(_plan, "configuration", lambda *_, **__: dict(chosen))
    monkeypatch.setattr(_plan, "ENOUGH_PROGRAMS", programs)
    monkeypatch.setattr(_plan, "MANY_PROGRAMS", programs)
    for op in ops:
        check(op, make_inputs(op, (1, 20, 3, 17), memory_format=memory_format))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("op", ["class_evidence", "class_evidence_affine"])
def test_the_product_as_amd_gpus_store_it_gives_the_same(op: str, dtype: torch.dtype) -> None:
    inputs = make_inputs(op, (2, 18, 4, 5), dtype, torch.channels_last)
    with pretend("gfx942"):
        check(op, inputs)


@pytest.mark.parametrize("op", ["class_evidence", "class_evidence_affine"])
@pytest.mark.parametrize("view", VIEWS)
def test_strided_views_give_the_same(view: str, op: str) -> None:
    z, *rest = make_inputs(op, (2, 6, 4, 5))
    check(op, (VIEWS[view](z.detach()).requires_grad_(), *rest))


def test_strided_gradients_and_vectors_give_the_same() -> None:
    z, scale, shift, _ = make_inputs("class_evidence_affine", (2, 6, 4, 5))
    vectors = torch.stack([scale, shift], 1).detach().requires_grad_()
    strided = torch.randn(1, 6, 3, 6, dtype=torch.float64)[..., ::2].requires_grad_()
    found = []
    for op in (kernels.class_evidence_affine, reference.class_evidence_affine):
        pooled, score = op(z, vectors[:, 0], vectors[:, 1], strided)
        gradients = torch.autograd.grad(pooled.sum() + score.transpose(2, 3).mean(), (z, vectors, strided))
        found.append([pooled, score, *gradients])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("used", [0, 1], ids=["GAP", "score"])
@pytest.mark.parametrize("op", OPS)
def test_one_output_alone_has_gradients(op: str, used: int) -> None:
    inputs = make_inputs(op, (2, 3, 4, 5))
    found = []
    for module in (kernels, reference):
        gradients = torch.autograd.grad(outputs(op, module)(*inputs)[used].sum(), inputs, allow_unused=True)
        found.append([torch.zeros_like(x) if d is None else d for d, x in zip(gradients, inputs, strict=True)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_statistics_are_those_of_the_batch_however_far_from_zero(
    offset: float, memory_format: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_plan, "ENOUGH_PROGRAMS", 8)  # groups of 31 pixels, of one image
    dtype = torch.float32
    z = (torch.randn(4, 9, 7, 9, dtype=torch.float64) + offset).to(dtype).contiguous(memory_format=memory_format)
    var, mean = torch.var_mean(z.double(), (0, 2, 3), correction=0)
    ones = torch.ones(9, dtype=dtype)
    _, statistics = kernels.class_evidence(z, ones, ones, torch.ones(1, 9, 3, 3, dtype=dtype), EPS)
    roundings = 64 * torch.finfo(dtype).eps  # squares that cancel would lose a million
    torch.testing.assert_close(statistics.mean.double(), mean, rtol=roundings, atol=roundings)
    torch.testing.assert_close(statistics.var.double(), var, rtol=roundings, atol=0)


def test_statistics_carry_no_gradient() -> None:
    _, statistics = kernels.class_evidence(*make_inputs("class_evidence", (2, 3, 2, 2)), EPS)  # type: ignore[arg-type, call-arg]
    assert not statistics.mean.requires_grad
    assert not statistics.var.requires_grad


@pytest.mark.parametrize("op", OPS[1::2])
def test_where_the_evidence_begins_the_gradient_is_zero(op: str) -> None:
    inputs = [x.detach() for x in make_inputs(op, (2, 3, 4, 5))]
    inputs[0] = inputs[0].round()
    inputs[1].fill_(1)
    inputs[2].zero_()  # relu(0) at many pixels
    assert (inputs[0] == 0).any()
    found = [results(outputs(op, m), [x.requires_grad_() for x in inputs], torch.float64) for m in (kernels, reference)]
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)


def test_nan_is_not_hidden_by_relu() -> None:
    z, scale, shift, map_weight = make_inputs("class_evidence_affine", (1, 3, 4, 4), torch.float32)
    z = z.detach()
    z[0, 1, 2, 2] = torch.nan
    pooled, score = kernels.class_evidence_affine(z, scale, shift, map_weight)
    assert pooled.isnan().tolist() == [[False, True, False]]
    assert score[0, 0, 1:, 1:].isnan().all()
    assert kernels.class_evidence_log_map_affine(z, scale, shift).score[0, 0, 2, 2].isnan()


def test_small_evidence_keeps_its_digits_in_the_log_map() -> None:
    z, vector = torch.full((1, 32, 1, 1), 1e-9), torch.ones(32)
    score = kernels.class_evidence_log_map_affine(z, vector, torch.zeros(32)).score
    torch.testing.assert_close(score.item(), 32e-9, rtol=1e-6, atol=0)


def test_an_empty_batch_has_empty_results_and_gradients_of_zero() -> None:
    for op in ("class_evidence_affine", "class_evidence_log_map_affine"):
        inputs = make_inputs(op, (0, 3, 4, 5), torch.float32)
        pooled, score = outputs(op)(*inputs)
        assert (pooled.shape, score.shape) == ((0, 3), (0, 1, 4, 5))
        gradients = torch.autograd.grad(pooled.sum() + score.sum(), inputs)
        assert [d.shape for d in gradients] == [x.shape for x in inputs]
        assert not any(d.any() for d in gradients[1:])


def test_the_same_input_gives_the_same_bits() -> None:
    inputs = make_inputs("class_evidence", (2, 18, 7, 7), torch.float32)
    first, second = (results(outputs("class_evidence"), inputs, torch.float32) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_second_derivative_is_refused() -> None:
    z, *rest = make_inputs("class_evidence_affine", (1, 2, 2, 2))
    pooled, _ = kernels.class_evidence_affine(z, *rest)
    (d_z,) = torch.autograd.grad(pooled.square().sum(), z, create_graph=True)
    with pytest.raises(ValueError, match="no second derivative"):
        d_z.sum().backward()


@pytest.mark.parametrize(
    ("size", "dtype", "memory_format"),
    [
        (CIFAR, torch.float16, FORMATS[1]),
        *(
            pytest.param(size, dtype, memory_format, marks=pytest.mark.slow)
            for size in (CIFAR, IMAGENET)
            for dtype in (torch.float16, torch.float32)
            for memory_format in FORMATS
        ),
    ],
    ids=str,
)
def test_traffic_is_within_its_limits(size: Size, dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    (case,) = (case for case in cases("class_evidence") if case.size == size)
    for row in traffic.rows_of(case, dtype, memory_format):
        assert row["limit"] is not None
        assert row["ok"], row


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("itemsize", [2, 4])
@pytest.mark.parametrize(("classes", "size"), [(1000, 14), (100, 16)])
def test_statistics_fill_a_gpu_for_few_partial_sums(
    classes: int, size: int, itemsize: int, memory_format: torch.memory_format
) -> None:
    dtype = {2: torch.float16, 4: torch.float32}[itemsize]
    z = torch.empty(32, classes, size, size, dtype=dtype).contiguous(memory_format=memory_format)
    groups = _plan.make_groups(z, 32)
    assert groups.programs() >= 128
    assert groups.groups * classes * 2 * 8 <= (0.03 if classes == 1000 else 0.13) * z.nbytes


TENSOR = torch.float32


@pytest.mark.parametrize(
    ("batch", "classes", "pixels"), [(6, 2**15, 2**15), (2**16, 16, 2**14), (1, 2**18, 2**14)], ids=str
)
@pytest.mark.parametrize("channels_last", [False, True])
def test_addresses_beyond_2_to_the_31_do_not_wrap(channels_last: bool, batch: int, classes: int, pixels: int) -> None:
    values, tiles, blocks = batch * classes * pixels, pixels // 16, classes // 16
    whole = {"K": classes, "H": 64, "W": pixels // 64, "ACC": tl.float32}
    tile = {
        "STRIDE_K": 1 if channels_last else pixels,
        "STRIDE_P": classes if channels_last else 1,
        "BLOCK_K": 16,
        "BLOCK_P": 16,
        "TILE": 16,
        "ALONG_CLASSES": False,
        "OPERAND": tl.float32,
        "PRECISION": "ieee",
    }
    last, division = [batch * tiles * blocks - 1], {"splits": blocks, "bands": tiles, "steps": 1}

    names = ["z", "scale", "shift", "map_weight", "partials", "pooled"]
    largest = largest_elements(
        _triton.apply_kernel, last, {**dict.fromkeys(names, TENSOR), **division}, **whole, **tile, PLANES=9
    )
    assert largest["z"] == values - 1
    assert largest["partials"] == batch * blocks * 9 * pixels - 1
    assert largest["pooled"] == batch * tiles * classes - 1

    names = ["d_pooled", "d_score", "z", "scale", "shift", "centre", "map_weight", "lines", "sums", "d_z"]
    largest = largest_elements(
        _triton.backward_kernel,
        last,
        {**dict.fromkeys(names, TENSOR), **division},
        **whole,
        **tile,
        HALO=0,
        CLASSES_LAST=channels_last,
    )
    assert largest["z"] == largest["d_z"] == values - 1
    assert largest["sums"] == batch * tiles * 11 * classes - 1
    assert largest["d_score"] == batch * pixels - 1
    assert largest["d_pooled"] == batch * classes - 1

    total = batch * pixels if channels_last else batch
    share = max(1, total - (16 if channels_last else 1))  # the last group is small
    largest = largest_elements(
        _triton.statistics_kernel,
        [blocks * -(-total // share) - 1],
        {"z": TENSOR, "partials": TENSOR, "total": total, "share": share},
        K=classes,
        PIXELS=pixels,
        CHANNELS_LAST=channels_last,
        BLOCK_K=16,
        BLOCK_P=16 if channels_last else 4096,
        ACC=tl.float32,
    )
    assert largest["z"] == values - 1


def test_addresses_of_partial_sums_beyond_2_to_the_31_do_not_wrap() -> None:
    batch, splits, bands, classes, side = 2**17, 8, 16, 1024, 16
    names = ["partials", "pools", "score", "pooled"]
    scores = batch * side * side // 128
    largest = largest_elements(
        _triton.finish_kernel,
        [scores - 1, scores + batch * classes // 128 - 1],
        {**dict.fromkeys(names, TENSOR), "splits": splits, "bands": bands, "scores": scores},
        K=classes,
        H=side,
        W=side,
        PLANES=9,
        BLOCK=128,
        ACC=tl.float32,
    )
    assert largest["partials"] == batch * splits * 9 * side * side - 1
    assert largest["pools"] == batch * bands * classes - 1
    assert largest["score"] == batch * side * side - 1
    assert largest["pooled"] == batch * classes - 1

    count, classes, rows = 64, 2**23, 11
    names = ["sums", "scale", "centre", "inverse", "d_scale", "d_shift", "lines", "d_map_weight"]
    largest = largest_elements(
        _triton.sum_kernel,
        [(rows - 1) * classes // 32 - 1],
        {**dict.fromkeys(names, TENSOR), "count": count, "total": count},
        ROWS=rows,
        K=classes,
        BLOCK_K=32,
        BLOCK_COUNT=32,
        ACC=tl.float32,
    )
    assert largest == {"sums": count * rows * classes - 1, "d_map_weight": 9 * classes - 1}
