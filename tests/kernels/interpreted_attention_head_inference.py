"""The kernels of attention_head_inference on CPU tensors, by TRITON_INTERPRET=1 pytest and the name of this file."""

import pytest
import torch
from torch import Tensor

from abn_fast import kernels
from abn_fast.kernels import Gate, reference
from abn_fast.kernels._runtime import record
from abn_fast.kernels._tuning import use
from tests.kernels._interpreted import (  # noqa: F401 - pytest finds fixtures by name
    DTYPES,
    FORMATS,
    VIEWS,
    _poisoned,
    assert_accurate,
)

GATES: tuple[Gate, ...] = ("residual", "product")
Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
# N, C, C', K, H, W
SHAPES = [(2, 3, 5, 7, 1, 1), (3, 5, 18, 40, 4, 5)]
SMALL_TILES = [
    {
        "kernel": "class_evidence_inference.evidence",
        "configuration": {
            "block_pixels": 16,
            "block_classes": 16,
            "block_channels": 16,
            "num_warps": 4,
            "num_stages": 1,
        },
    },
    {"kernel": "class_evidence_inference.pool", "configuration": {"block_classes": 16, "num_warps": 4}},
    {"kernel": "attention_gate_from_taps.gate", "configuration": {"tile_bytes": 64, "block_pixels": 4, "num_warps": 4}},
]
"""Images span several tiles of pixels, and classes several programs."""


def make_inputs(
    shape: tuple[int, ...], dtype: torch.dtype, memory_format: torch.memory_format = torch.contiguous_format
) -> Inputs:
    batch, channels, stage_channels, classes, *size = shape
    exact = reference.accumulator(dtype)
    features = torch.randn(batch, channels, *size).to(dtype).contiguous(memory_format=memory_format)
    stage_output = torch.randn(batch, stage_channels, *size).to(dtype).contiguous(memory_format=memory_format)
    weight, bias = torch.randn(classes, stage_channels, 1, 1).to(dtype), torch.randn(classes).to(dtype)
    map_weight = torch.randn(1, classes, 3, 3).to(dtype) / 9
    scale, shift = torch.randn(2, 1, dtype=exact)
    return features, stage_output, weight, bias, map_weight, scale, shift


def in_double(inputs: Inputs) -> Inputs:
    features, stage_output, weight, bias, map_weight, scale, shift = (x.double() for x in inputs)
    return features, stage_output, weight, bias, map_weight, scale, shift


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("rows", [None, SMALL_TILES], ids=["shipped", "small tiles"])
def test_outputs_are_those_of_the_definition(
    rows: list[dict[str, object]] | None,
    shape: tuple[int, ...],
    memory_format: torch.memory_format,
    dtype: torch.dtype,
) -> None:
    inputs = make_inputs(shape, dtype, memory_format)
    gate = GATES[sum(shape) % 2]
    with use(rows or []):
        ours = kernels.attention_head_inference(*inputs, gate=gate)
    assert_accurate(
        ours,
        reference.attention_head_inference(*inputs, gate=gate),
        reference.attention_head_inference(*in_double(inputs), gate=gate),
    )
    assert ours[1].is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("view", VIEWS)
def test_strided_views_give_the_same(view: str) -> None:
    features, stage_output, weight, bias, map_weight, scale, shift = make_inputs((2, 6, 5, 17, 4, 5), torch.float64)
    strided = VIEWS[view](features), VIEWS[view](stage_output), weight, bias, map_weight, scale, shift
    ours, theirs = (module.attention_head_inference(*strided) for module in (kernels, reference))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_an_empty_batch_has_empty_results() -> None:
    results = kernels.attention_head_inference(*make_inputs((0, 3, 5, 7, 4, 5), torch.float32))
    assert [tuple(x.shape) for x in results] == [(0, 7), (0, 3, 4, 5), (0, 1, 4, 5)]


def test_the_same_input_gives_the_same_bits() -> None:
    inputs = make_inputs((2, 8, 16, 33, 4, 5), torch.float32)
    with use(SMALL_TILES):
        first, second = (kernels.attention_head_inference(*inputs) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("batch", [1, 8, 64])
def test_a_head_is_two_launches(batch: int) -> None:
    with record() as launches:
        kernels.attention_head_inference(*make_inputs((batch, 16, 32, 1000, 14, 14), torch.float16))
    assert [launch.kernel.fn.__name__ for launch in launches] == ["evidence_kernel", "gate_and_pool_kernel"]
