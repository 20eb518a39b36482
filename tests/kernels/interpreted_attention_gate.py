"""The kernels of attention_gate on CPU tensors, by TRITON_INTERPRET=1 pytest and the name of this file."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import triton.language as tl
from torch import Tensor
from torch.autograd import gradcheck
from triton.runtime import interpreter

from abn_fast import kernels
from abn_fast.kernels import Gate, reference
from abn_fast.kernels.attention_gate import _launch, _plan, _triton
from abn_fast.proofs.traffic import Traffic
from tests.kernels._interpreted import (  # noqa: F401 - pytest finds fixtures by name
    DTYPES,
    FORMATS,
    VIEWS,
    _poisoned,
    assert_accurate,
    exact,
    results,
)

GATES: tuple[Gate, ...] = ("residual", "product")
# N, C, T, H, W
SHAPES = [
    (2, 3, 1, 1, 1),
    (1, 16, 3, 1, 1),
    (2, 5, 3, 5, 7),
    (1, 8, 1, 7, 7),
    (2, 7, 1, 7, 7),
    (1, 18, 1, 14, 14),
    (1, 4, 2, 14, 14),
    (1, 6, 1, 3, 37),
    (1, 5, 40, 2, 3),
    (1, 300, 1, 4, 4),
]


def make_inputs(
    shape: tuple[int, ...], dtype: torch.dtype, memory_format: torch.memory_format = torch.contiguous_format
) -> tuple[Tensor, ...]:
    batch, channels, maps, *size = shape
    vector = reference.accumulator(dtype)
    features = torch.randn(batch, channels, *size).to(dtype).contiguous(memory_format=memory_format)
    score = torch.randn(batch, maps, *size).to(dtype)
    inputs = (features, score, torch.randn(maps, dtype=vector), torch.randn(maps, dtype=vector))
    return tuple(x.requires_grad_() for x in inputs)


def check(op: str, inputs: tuple[Tensor, ...], gate: Gate) -> list[Tensor]:
    ours, torchs, truth = (
        results(partial(getattr(module, op), gate=gate), x)
        for module, x in ((kernels, inputs), (reference, inputs), (reference, exact(inputs)))
    )
    largest: list[Tensor | None] = []
    if op == "attention_gate":
        _, score, scale, _ = exact(inputs)
        terms = (truth[3] / scale[:, None, None]).abs()
        largest = [None] * 4 + [(terms * score.abs()).sum((0, 2, 3)).max(), terms.sum((0, 2, 3)).max()]
    assert_accurate(ours, torchs, truth, largest)
    return ours


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_outputs_and_gradients_are_those_of_the_definition(
    shape: tuple[int, ...], memory_format: torch.memory_format, dtype: torch.dtype
) -> None:
    inputs = make_inputs(shape, dtype, memory_format)
    gate = GATES[sum(shape) % 2]
    ours = check("attention_gate", inputs, gate)
    assert ours[0].is_contiguous(memory_format=memory_format)
    assert ours[2].is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("shape", [(2, 5, 1, 7, 7), (1, 8, 3, 2, 5)], ids=str)
def test_both_gates_of_a_given_map(
    shape: tuple[int, ...], gate: Gate, memory_format: torch.memory_format, dtype: torch.dtype
) -> None:
    inputs = make_inputs(shape, dtype, memory_format)[:2]
    check("gate_features", inputs, gate)


@pytest.mark.parametrize(
    ("shape", "memory_format", "gate"),
    [
        ((1, 3, 2, 1, 3), torch.channels_last, "residual"),
        ((1, 2, 2, 1, 2), torch.contiguous_format, "product"),
        ((2, 2, 1, 2, 1), torch.contiguous_format, "residual"),
        ((1, 2, 1, 2, 2), torch.channels_last, "product"),
    ],
    ids=str,
)
def test_gradients_are_the_differences_of_the_outputs(
    shape: tuple[int, ...], memory_format: torch.memory_format, gate: Gate
) -> None:
    inputs = make_inputs(shape, torch.float64, memory_format)
    assert gradcheck(partial(kernels.attention_gate, gate=gate), inputs)
    assert gradcheck(partial(kernels.gate_features, gate=gate), inputs[:2])


@pytest.mark.parametrize("maps", [1, 3])
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize(
    "division",
    [{"block_a": 2, "block_b": 8}, {"block_a": 4, "block_b": 8, "chunks": 3}],
    ids=str,
)
def test_any_division_into_programs_gives_the_same(
    division: dict[str, Any], memory_format: torch.memory_format, maps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def divided(*arguments: Any, **options: Any) -> _plan.Plan:
        plan = replace(_plan.make_plan(*arguments, **options), **division)
        chunks = plan.chunks if maps == 1 else 1
        blocks = -(-plan.a // plan.block_a)
        return replace(plan, tiles=-(-plan.b // plan.block_b), chunks=chunks, splits=-(-blocks // chunks))

    inputs = make_inputs((1, 19, maps, 3, 5), torch.float64, memory_format)
    expected = results(partial(reference.attention_gate, gate="residual"), inputs)
    monkeypatch.setattr(_launch, "make_plan", divided)
    for ours, theirs in zip(results(partial(kernels.attention_gate, gate="residual"), inputs), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("maps_too", [False, True], ids=["features", "features and maps"])
@pytest.mark.parametrize("view", VIEWS)
def test_strided_views_give_the_same(view: str, maps_too: bool) -> None:
    features, score, scale, shift = (x.detach() for x in make_inputs((2, 6, 3, 4, 5), torch.float64))
    strided = VIEWS[view](features).requires_grad_()
    score = (VIEWS[view](score) if maps_too else score).requires_grad_()
    inputs = (strided, score, scale.requires_grad_(), shift.requires_grad_())
    for ours, theirs in zip(
        results(partial(kernels.attention_gate, gate="product"), inputs),
        results(partial(reference.attention_gate, gate="product"), inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_strided_gradients_and_vectors_give_the_same() -> None:
    features, score, scale, shift = make_inputs((2, 6, 3, 4, 5), torch.float64)
    vectors = torch.stack([scale, shift], 1).detach().requires_grad_()
    found = []
    for op in (kernels.attention_gate, reference.attention_gate):
        gated, attention = op(features, score, vectors[:, 0], vectors[:, 1])
        found.append(
            [gated, attention, *torch.autograd.grad(gated.sum() + attention.mean(), (features, score, vectors))]
        )
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("used", [0, 1], ids=["gated", "attention"])
def test_one_output_alone_has_gradients(used: int) -> None:
    inputs = make_inputs((2, 3, 2, 2, 3), torch.float64)
    found = []
    for op in (kernels.attention_gate, reference.attention_gate):
        outputs: Any = op(*inputs)  # type: ignore[arg-type]  # four tensors
        gradients = torch.autograd.grad(outputs[used].sum(), inputs, allow_unused=True)
        found.append([torch.zeros_like(x) if d is None else d for d, x in zip(gradients, inputs, strict=True)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtypes", [("float32", "bfloat16"), ("float16", "float32")], ids=str)
def test_features_and_score_of_two_dtypes_keep_them(dtypes: tuple[str, str]) -> None:
    features, score, scale, shift = (x.detach() for x in make_inputs((2, 6, 2, 4, 5), torch.float32))
    features, score = (x.to(getattr(torch, d)) for x, d in zip((features, score), dtypes, strict=True))
    inputs = tuple(x.requires_grad_() for x in (features, score, scale, shift))
    check("attention_gate", inputs, "residual")


def test_an_empty_batch_has_empty_results_and_gradients_of_zero() -> None:
    features, score, scale, shift = make_inputs((0, 3, 2, 4, 5), torch.float32)
    gated, attention = kernels.attention_gate(features, score, scale, shift)
    assert (gated.shape, attention.shape) == ((0, 3, 4, 5), (0, 2, 4, 5))
    gradients = torch.autograd.grad(gated.sum() + attention.sum(), (features, score, scale, shift))
    assert [d.shape for d in gradients] == [x.shape for x in (features, score, scale, shift)]
    assert gradients[2].tolist() == gradients[3].tolist() == [0, 0]


def test_the_same_input_gives_the_same_bits() -> None:
    inputs = make_inputs((2, 18, 3, 7, 7), torch.float32)
    for first, second in zip(
        *(results(partial(kernels.attention_gate, gate="residual"), inputs) for _ in range(2)), strict=True
    ):
        assert torch.equal(first, second)


def test_a_second_derivative_is_refused() -> None:
    features, score, scale, shift = make_inputs((1, 2, 1, 2, 2), torch.float64)
    gated, _ = kernels.attention_gate(features, score, scale, shift)
    (d_features,) = torch.autograd.grad(gated.square().sum(), features, create_graph=True)
    with pytest.raises(ValueError, match="no second derivative"):
        d_features.sum().backward()


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize(("channels", "size"), [(1024, 14), (128, 16)])
def test_traffic_is_at_most_1_03_of_the_floor_and_uses_its_sectors(
    channels: int, size: int, dtype: torch.dtype, memory_format: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plan_of_batch_32(batch: int, *arguments: Any, **options: Any) -> _plan.Plan:
        plan = _plan.make_plan(32, *arguments, **options)
        assert plan.programs(32) >= 128
        return plan

    # every image is treated alike
    monkeypatch.setattr(_launch, "make_plan", plan_of_batch_32)
    features, score, scale, shift = make_inputs((1, channels, 1, size, size), dtype, memory_format)
    floor = features.nbytes
    with Traffic() as forward:
        gated, attention = kernels.attention_gate(features, score, scale, shift)
    projections = torch.ones_like(gated), torch.ones_like(attention)
    with Traffic() as backward:
        torch.autograd.grad((gated, attention), (features, score, scale, shift), projections)
    assert 2 * floor < forward.bytes <= 1.03 * 2 * floor
    assert 3 * floor < backward.bytes <= 1.03 * 3 * floor
    assert forward.sector_use >= 0.9
    assert backward.sector_use >= 0.9


@pytest.mark.parametrize("maps", [1, 2])
@pytest.mark.parametrize(("n", "channels", "pixels"), [(5, 2**15, 2**15), (1, 2**17, 2**15), (2**18, 16, 2**14)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_addresses_beyond_2_to_the_31_do_not_wrap(
    channels_last: bool, n: int, channels: int, pixels: int, maps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = _addresses_of_the_last_program(channels_last, n, channels, pixels, maps, monkeypatch)
    last_image, last_map = (n + 1) * channels * pixels - 1, (n + 1) * maps * pixels - 1
    assert largest["features"] == largest["d_features"] == last_image
    assert largest["gated"] == largest["d_gated"] == (n + 1) * maps * channels * pixels - 1
    assert largest["maps"] == largest["d_maps"] == largest["attention"] == last_map


def _addresses_of_the_last_program(
    channels_last: bool, n: int, channels: int, pixels: int, maps: int, monkeypatch: pytest.MonkeyPatch
) -> dict[str, int]:
    """The largest element that each tensor is asked for by the last program of image n; nothing is read or written."""
    names = ["features", "maps", "scale", "shift", "gated", "attention", "d_gated", "d_features", "partials"]
    tensors = {name: torch.zeros(1) for name in [*names, "d_maps", "d_vectors"]}
    base = {2**60 + 2**50 * i: name for i, name in enumerate(tensors)}
    largest: dict[str, int] = {}

    def seen(pointers: Any, mask: Any) -> None:
        addresses = pointers.data[mask.data.astype(bool)]
        for start, name in base.items():
            inside = addresses[(addresses >= start) & (addresses < start + 2**49)]
            if inside.size:
                largest[name] = max(largest.get(name, 0), (int(inside.max()) - start) // 4)
        assert ((addresses >= 2**60) & (addresses % 2**50 < 2**49)).all()

    def load(this: Any, pointers: Any, mask: Any, other: Any, *rest: Any) -> Any:
        seen(pointers, mask)
        return interpreter.TensorHandle(np.zeros(pointers.data.shape, np.float32), tl.float32)

    builder = interpreter.InterpreterBuilder
    monkeypatch.setattr(builder, "create_masked_load", load)
    monkeypatch.setattr(builder, "create_masked_store", lambda this, pointers, value, mask, *rest: seen(pointers, mask))
    program = [0]
    monkeypatch.setattr(
        builder,
        "create_get_program_id",
        lambda this, axis: interpreter.TensorHandle(np.array([program[0]], np.int32), tl.int32),
    )
    executor = interpreter.GridExecutor
    monkeypatch.setattr(executor, "_init_args_hst", lambda this, arguments, constants: (arguments, constants))
    monkeypatch.setattr(executor, "_restore_args_dev", lambda *_: None)
    for start, name in base.items():
        monkeypatch.setattr(tensors[name], "data_ptr", partial(int, start))

    a, b = channels, pixels
    strides = (1, channels) if channels_last else (pixels, 1)
    constants = {"T": maps, "PIXELS": pixels, "SIGMOID": True, "ACC": tl.float32}
    blocks = {"A": a, "B": b, "STRIDE_A": strides[0], "STRIDE_B": strides[1], "BLOCK_A": 8, "BLOCK_B": 16}
    chunks = 2 if maps == 1 else 1
    splits, tiles = a // (8 * chunks), b // 16
    program[0] = (n + 1) * tiles * splits - 1
    assert program[0] < 2**31
    x = tensors
    forward = [x[name] for name in ("features", "maps", "scale", "shift", "gated", "attention")]
    _triton.forward_kernel[(1,)](*forward, splits, chunks, **constants, **blocks, TILES=tiles, RESIDUAL=True)
    program[0] -= splits - 1  # of the first split, which writes the map
    _triton.forward_kernel[(1,)](*forward, splits, chunks, **constants, **blocks, TILES=tiles, RESIDUAL=True)
    program[0] += splits - 1
    backward = [x[name] for name in ("d_gated", "features", "maps", "scale", "shift", "d_features", "partials")]
    _triton.backward_kernel[(1,)](*backward, splits, chunks, **constants, **blocks, TILES=tiles, RESIDUAL=True)
    tiles = pixels // 128
    program[0] = (n + 1) * tiles * maps - 1
    last = [x["partials"], None, *(x[name] for name in ("maps", "scale", "shift", "d_maps", "d_vectors"))]
    _triton.map_gradient_kernel[(1,)](*last, 2, B=b, BLOCK=128, TILES=tiles, **constants)
    return largest
