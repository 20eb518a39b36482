"""The kernel: that of `attention_gate_from_taps`, and what finishes GAP, in one launch."""

# ruff: noqa: N803 - a constexpr is written in capitals
# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl

from abn_fast.kernels.attention_gate_from_taps._triton import gate_tile
from abn_fast.kernels.class_evidence_inference._triton import pool_classes

# these follow the batch size, for which nothing is compiled anew
_RUNTIME = ["parts", "splits", "chunks", "gates", "group", "tiles"]


@triton.jit(do_not_specialize=_RUNTIME)
def gate_and_pool_kernel(
    features,
    taps,
    scale,
    shift,
    gated,
    attention,
    parts,
    splits,
    chunks,
    sums,
    pooled,
    group,
    tiles,
    gates,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    A: tl.constexpr,
    B: tl.constexpr,
    STRIDE_A: tl.constexpr,
    STRIDE_B: tl.constexpr,
    BLOCK_A: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_MAP: tl.constexpr,
    TILES: tl.constexpr,
    RESIDUAL: tl.constexpr,
    CLASSES: tl.constexpr,
    PIXELS: tl.constexpr,
    SLOTS: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_CLASSES: tl.constexpr,
    ACC: tl.constexpr,
):
    """The first `gates` programs gate the features, the others pool."""
    program = tl.program_id(0)
    if program < gates:
        gate_tile(
            program,
            features,
            taps,
            scale,
            shift,
            gated,
            attention,
            parts,
            splits,
            chunks,
            HEIGHT,
            WIDTH,
            A,
            B,
            STRIDE_A,
            STRIDE_B,
            BLOCK_A,
            BLOCK_B,
            BLOCK_MAP,
            TILES,
            RESIDUAL,
            ACC,
        )
    else:
        pool_classes(
            program - gates, sums, pooled, group, tiles, CLASSES, PIXELS, SLOTS, BLOCK_PIXELS, BLOCK_CLASSES, ACC
        )
