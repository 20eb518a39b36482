"""The kernels of class_evidence_inference on CPU tensors, by TRITON_INTERPRET=1 pytest and the name of this file."""

from typing import Any

import pytest
import torch
import triton.language as tl
from torch import Tensor
from torch.autograd import gradcheck

from abn_fast import kernels
from abn_fast.kernels import reference
from abn_fast.kernels.class_evidence_inference import _plan, _triton
from abn_fast.proofs.traffic import Traffic
from tests.kernels._addresses import largest_elements
from tests.kernels._interpreted import (  # noqa: F401 - pytest finds fixtures by name
    DTYPES,
    FORMATS,
    VIEWS,
    _poisoned,
    assert_accurate,
)

# N, C', K, H, W
SHAPES = [
    (2, 24, 10, 5, 7),
    (3, 17, 5, 1, 1),
    (1, 8, 1, 9, 14),
    (2, 70, 70, 3, 11),
    (1, 16, 130, 2, 3),
]


def make_inputs(
    shape: tuple[int, ...], dtype: torch.dtype, memory_format: torch.memory_format = torch.contiguous_format
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch, channels, classes, *size = shape
    stage_output = torch.randn(batch, channels, *size).to(dtype).contiguous(memory_format=memory_format)
    weight = (torch.randn(classes, channels, 1, 1) / channels**0.5).to(dtype)
    map_weight = torch.randn(1, classes, 3, 3, dtype=reference.accumulator(dtype))
    return stage_output, weight, torch.randn(classes).to(dtype), map_weight


def part_of(shape: tuple[int, ...]) -> int:
    batch, _, classes, height, width = shape
    return _plan.classes_of_a_part(batch, height * width, classes)


def check(inputs: tuple[Tensor, Tensor, Tensor, Tensor], part: int) -> None:
    f, weight, bias, map_weight = exact = tuple(x.double() for x in inputs)
    evidence = torch.relu(torch.conv2d(f, weight, bias))
    score_terms = torch.conv2d(evidence, map_weight.abs(), padding=1).max()
    assert_accurate(
        kernels.class_evidence_inference(*inputs),
        reference.class_evidence_inference(*inputs),
        reference.class_evidence_inference(*exact),
        [None, score_terms],
    )
    assert_accurate(
        kernels.class_evidence_taps_inference(*inputs),
        reference.class_evidence_taps_inference(*inputs, part=part),
        reference.class_evidence_taps_inference(f, weight, bias, map_weight, part),
    )
    assert_accurate(
        kernels.class_evidence_log_map_inference(*inputs[:3]),
        reference.class_evidence_log_map_inference(*inputs[:3]),
        reference.class_evidence_log_map_inference(f, weight, bias),
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_outputs_are_those_of_the_definition(
    shape: tuple[int, ...], memory_format: torch.memory_format, dtype: torch.dtype
) -> None:
    check(make_inputs(shape, dtype, memory_format), part_of(shape))


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize(
    ("shape", "programs", "pixels"),
    [
        ((5, 8, 70, 5, 5), 2, 2**30),  # tiles across images, two blocks of classes
        ((5, 8, 70, 5, 5), 2, 110),  # groups of four images
        ((5, 8, 10, 4, 4), 1, 2**30),  # whole images in each tile
        ((2, 8, 3, 1, 200), 1, 2**30),  # images in several tiles
        ((1, 8, 70, 9, 9), 9, 2**30),  # parts of the classes
        ((1, 8, 1000, 1, 2), 8, 2**30),
    ],
    ids=str,
)
def test_any_division_into_programs_gives_the_same(
    shape: tuple[int, ...],
    programs: int,
    pixels: int,
    memory_format: torch.memory_format,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_plan, "ENOUGH_PROGRAMS", programs)
    monkeypatch.setattr(_plan, "MOST_PIXELS", pixels)
    check(make_inputs(shape, torch.float64, memory_format), part_of(shape))


@pytest.mark.parametrize("view", VIEWS)
def test_strided_views_give_the_same(view: str) -> None:
    stage_output, weight, bias, map_weight = make_inputs((2, 6, 5, 4, 5), torch.float64)
    strided = (
        VIEWS[view](stage_output),
        weight.transpose(0, 1).contiguous().transpose(0, 1),
        bias[:1].expand(5),
        map_weight.transpose(2, 3),
    )
    for ours, theirs in zip(
        kernels.class_evidence_inference(*strided), reference.class_evidence_inference(*strided), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_an_empty_batch_has_empty_results() -> None:
    inputs = make_inputs((0, 6, 5, 4, 5), torch.float32)
    pooled, taps = kernels.class_evidence_taps_inference(*inputs)
    assert pooled.shape == (0, 5)
    assert taps.shape[0] == 0
    assert [y.shape for y in kernels.class_evidence_inference(*inputs)] == [(0, 5), (0, 1, 4, 5)]


def test_the_same_input_gives_the_same_bits() -> None:
    inputs = make_inputs((2, 18, 40, 7, 7), torch.float32)
    first, second = (kernels.class_evidence_taps_inference(*inputs) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_small_evidence_keeps_its_digits_in_the_log_map() -> None:
    stage_output, weight = torch.full((1, 1, 1, 1), 1e-9), torch.ones(32, 1, 1, 1)
    score = kernels.class_evidence_log_map_inference(stage_output, weight, torch.zeros(32)).score
    torch.testing.assert_close(score.item(), 32e-9, rtol=1e-6, atol=0)


def test_where_a_gradient_is_asked_for_there_is_one() -> None:
    inputs = tuple(x.requires_grad_() for x in make_inputs((1, 2, 2, 1, 2), torch.float64))
    assert gradcheck(lambda *x: tuple(kernels.class_evidence_inference(*x)), inputs)
    assert gradcheck(lambda *x: tuple(kernels.class_evidence_log_map_inference(*x)), inputs[:3])
    assert gradcheck(kernels.class_evidence_taps_inference, inputs)


@pytest.mark.parametrize(
    ("channels", "classes", "size", "limit", "memory_format"),
    [(256, 100, 16, 1.20, each) for each in FORMATS] + [(2048, 1000, 14, 1.10, torch.contiguous_format)],
    ids=str,
)
def test_traffic_is_within_its_limits(
    channels: int, classes: int, size: int, limit: float, memory_format: torch.memory_format
) -> None:
    batch = 32
    inputs = make_inputs((batch, channels, classes, size, size), torch.float16, memory_format)
    with Traffic(images=batch) as traffic:
        pooled, _ = kernels.class_evidence_taps_inference(*inputs)
    score = 4 * batch * size * size
    floor = sum(x.nbytes for x in inputs) + pooled.nbytes + score
    assert floor < traffic.unique_bytes <= limit * floor
    assert traffic.sector_use >= 0.9
    assert traffic.programs is not None
    assert traffic.programs >= 128
    product, *_ = traffic.launches
    tile_of_pixels, tile_of_classes = product.constants["BLOCK_PIXELS"], product.constants["BLOCK_CLASSES"]
    stage_output, weight, *_ = inputs
    tiled = stage_output.nbytes * -(-classes // tile_of_classes) + weight.nbytes * batch * -(
        -size * size // tile_of_pixels
    )
    evidence = pooled.element_size() * batch * classes * size * size
    assert product.bytes <= tiled + evidence


@pytest.mark.parametrize(
    ("n", "channels", "classes", "pixels"),
    [(5, 2**15, 32, 2**15), (1, 2**17, 32, 2**15), (2**18, 16, 32, 2**14), (0, 2**16, 2**16, 64)],
)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_addresses_beyond_2_to_the_31_do_not_wrap(
    whole: bool, channels_last: bool, n: int, channels: int, classes: int, pixels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors: dict[str, Any] = dict.fromkeys(
        ["stage_output", "weight", "bias", "map_weight", "pooled", "taps"], torch.float32
    )
    tiles, parts = pixels // 64, classes // 16
    shared = {"CLASSES": classes, "PIXELS": pixels, "SLOTS": 1, "BLOCK_PIXELS": 64, "BLOCK_CLASSES": 16}
    last = (n + 1) * tiles * parts - 1
    monkeypatch.setattr(tl, "dot", lambda a, b, acc, **_: acc)
    largest = largest_elements(
        _triton.evidence_kernel,
        [last],
        {**tensors, "batch": n + 1, "group": 1, "tiles": tiles},
        CHANNELS=channels,
        CHANNELS_LAST=channels_last,
        LOG_MAP=False,
        PARTS=parts,
        BLOCKS=1,
        WHOLE=whole,
        BLOCK_CHANNELS=min(channels, 8192),
        DOT_TAPS=False,
        OPERAND=tl.float32,
        PRECISION="ieee",
        ACC=tl.float32,
        **shared,
    )
    assert largest["stage_output"] == (n + 1) * channels * pixels - 1
    assert largest["weight"] == classes * channels - 1
    assert largest["taps"] == (n + 1) * parts * 9 * pixels - 1
    assert largest["pooled"] == (n + 1) * (1 if whole else tiles) * classes - 1
    largest = largest_elements(
        _triton.pool_kernel,
        [(n + 1) * parts - 1],
        {"sums": torch.float32, "pooled": torch.float32, "group": 1, "tiles": tiles},
        **shared,
        ACC=tl.float32,
    )
    assert largest == {"sums": (n + 1) * tiles * classes - 1, "pooled": (n + 1) * classes - 1}
