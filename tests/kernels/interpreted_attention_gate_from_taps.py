"""The kernel of attention_gate_from_taps on CPU tensors, by TRITON_INTERPRET=1 pytest and the name of this file."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
import triton.language as tl
from torch import Tensor
from torch.autograd import gradcheck

from abn_fast import kernels
from abn_fast.kernels import Gate, reference
from abn_fast.kernels.attention_gate._plan import Plan
from abn_fast.kernels.attention_gate_from_taps import _launch, _plan, _triton
from abn_fast.proofs.traffic import Traffic
from tests.kernels._addresses import largest_elements
from tests.kernels._interpreted import (  # noqa: F401 - pytest finds fixtures by name
    DTYPES,
    FORMATS,
    VIEWS,
    _poisoned,
    assert_accurate,
)

GATES: tuple[Gate, ...] = ("residual", "product")
# N, C, parts, H, W
SHAPES = [
    (2, 3, 1, 1, 1),
    (2, 5, 3, 1, 7),
    (1, 7, 1, 7, 1),
    (1, 8, 2, 7, 7),
    (1, 4, 1, 14, 14),
    (1, 3, 1, 3, 23),
    (1, 300, 1, 2, 2),
]


def make_inputs(
    shape: tuple[int, ...], dtype: torch.dtype, memory_format: torch.memory_format = torch.contiguous_format
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch, channels, parts, *size = shape
    exact = reference.accumulator(dtype)
    features = torch.randn(batch, channels, *size).to(dtype).contiguous(memory_format=memory_format)
    scale, shift = torch.randn(2, 1, dtype=exact)
    return features, torch.randn(batch, 9 * parts, *size, dtype=exact), scale, shift


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_outputs_are_those_of_the_definition(
    shape: tuple[int, ...], memory_format: torch.memory_format, dtype: torch.dtype
) -> None:
    inputs = make_inputs(shape, dtype, memory_format)
    gate = GATES[sum(shape) % 2]
    ours = kernels.attention_gate_from_taps(*inputs, gate=gate, dtype=dtype)
    features, taps, scale, shift = (x.double() for x in inputs)
    assert_accurate(
        ours,
        reference.attention_gate_from_taps(*inputs, gate=gate, dtype=dtype),
        reference.attention_gate_from_taps(features, taps, scale, shift, gate),
    )
    assert ours[0].is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("size", [(3, 5), (7, 7)], ids=str)
@pytest.mark.parametrize("division", [{"block_a": 2, "block_b": 8}, {"block_a": 4, "block_b": 8, "chunks": 3}], ids=str)
def test_any_division_into_programs_gives_the_same(
    division: dict[str, Any],
    size: tuple[int, int],
    memory_format: torch.memory_format,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def divided(*arguments: Any) -> Plan:
        plan = replace(_plan.make_plan(*arguments), **division)
        blocks = -(-plan.a // plan.block_a)
        return replace(plan, tiles=-(-plan.b // plan.block_b), splits=-(-blocks // plan.chunks))

    inputs = make_inputs((1, 12, 1, *size), torch.float64, memory_format)
    monkeypatch.setattr(_launch, "make_plan", divided)
    ours, theirs = (module.attention_gate_from_taps(*inputs) for module in (kernels, reference))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("view", VIEWS)
def test_strided_views_give_the_same(view: str) -> None:
    features, taps, scale, shift = make_inputs((2, 6, 2, 4, 5), torch.float64)
    strided = VIEWS[view](features), VIEWS[view](taps), scale, shift
    ours, theirs = (module.attention_gate_from_taps(*strided) for module in (kernels, reference))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_the_map_has_the_dtype_of_the_taps_or_the_one_asked_for() -> None:
    features, taps, scale, shift = make_inputs((1, 3, 1, 2, 2), torch.float32)
    features = features.half()
    assert kernels.attention_gate_from_taps(features, taps, scale, shift)[1].dtype == torch.float32
    gated, attention = kernels.attention_gate_from_taps(features, taps, scale, shift, dtype=torch.bfloat16)
    assert (gated.dtype, attention.dtype) == (torch.float16, torch.bfloat16)


def test_an_empty_batch_has_empty_results() -> None:
    gated, attention = kernels.attention_gate_from_taps(*make_inputs((0, 3, 2, 4, 5), torch.float32))
    assert (gated.shape, attention.shape) == ((0, 3, 4, 5), (0, 1, 4, 5))


def test_the_same_input_gives_the_same_bits() -> None:
    inputs = make_inputs((1, 8, 2, 7, 7), torch.float32)
    first, second = (kernels.attention_gate_from_taps(*inputs) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("gate", GATES)
def test_where_a_gradient_is_asked_for_there_is_one(gate: Gate) -> None:
    inputs = tuple(x.requires_grad_() for x in make_inputs((1, 2, 2, 2, 3), torch.float64))
    assert gradcheck(partial(kernels.attention_gate_from_taps, gate=gate), inputs)


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize(("channels", "size"), [(1024, 14), (128, 16)])
def test_traffic_is_at_most_1_03_of_features_and_taps_and_uses_its_sectors(
    channels: int, size: int, dtype: torch.dtype, memory_format: torch.memory_format
) -> None:
    features, taps, scale, shift = make_inputs((32, channels, 1, size, size), dtype, memory_format)
    with Traffic(images=32) as traffic:
        kernels.attention_gate_from_taps(features, taps, scale, shift, dtype=dtype)
    floor = 2 * features.nbytes + taps.nbytes
    assert 2 * features.nbytes < traffic.bytes <= 1.03 * floor
    assert traffic.sector_use >= 0.9
    assert traffic.programs is not None
    assert traffic.programs >= 128


@pytest.mark.parametrize(("n", "channels", "side"), [(5, 2**15, 181), (1, 2**17, 181), (2**18, 16, 128)])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("block_map", [0, 2**15])
def test_addresses_beyond_2_to_the_31_do_not_wrap(
    block_map: int, channels_last: bool, n: int, channels: int, side: int
) -> None:
    pixels, parts, chunks = side * side, 2, 2
    splits, tiles = channels // (8 * chunks), -(-pixels // 16)
    programs = (n + 1) * tiles * splits
    tensors: dict[str, Any] = dict.fromkeys(["features", "taps", "scale", "shift", "gated", "attention"], torch.float32)
    largest = largest_elements(
        _triton.gate_kernel,
        [programs - 1, programs - splits],  # the first split writes the map
        {**tensors, "parts": parts, "splits": splits, "chunks": chunks},
        HEIGHT=side,
        WIDTH=side,
        A=channels,
        B=pixels,
        STRIDE_A=1 if channels_last else pixels,
        STRIDE_B=channels if channels_last else 1,
        BLOCK_A=8,
        BLOCK_B=16,
        BLOCK_MAP=block_map,
        TILES=tiles,
        RESIDUAL=True,
        ACC=tl.float32,
    )
    assert largest["features"] == largest["gated"] == (n + 1) * channels * pixels - 1
    assert largest["attention"] == (n + 1) * pixels - 1
    beyond = 0 if block_map else 3  # taps of the row below the last pixels
    assert largest["taps"] == ((n + 1) * parts * 9 - beyond) * pixels - 1
