"""The gate's kernel with the parameters that TensorRT passes: inputs, numbers, outputs."""

# ruff: noqa: N803 - a constexpr is written in capitals
# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl

from abn_fast.kernels.attention_gate._triton import forward_kernel


@triton.jit(do_not_specialize=["splits", "chunks", "pixels"])
def gate_kernel(
    features,
    score,
    splits,
    chunks,
    pixels,
    gated,
    attention,
    T: tl.constexpr,
    C: tl.constexpr,
    RUN: tl.constexpr,  # channels whose pixels lie together along b
    PIXELS: tl.constexpr,  # None where they vary
    CHANNELS_LAST: tl.constexpr,
    BLOCK_A: tl.constexpr,
    BLOCK_B: tl.constexpr,
    RESIDUAL: tl.constexpr,
):
    if PIXELS is not None:
        pixels = PIXELS
    a: tl.constexpr = C // RUN
    b = pixels * RUN
    if CHANNELS_LAST:
        stride_a, stride_b = 1, C
    else:
        stride_a, stride_b = b, 1
    forward_kernel(
        features,
        score,
        None,
        None,
        gated,
        attention,
        splits,
        chunks,
        T,
        pixels,
        a,
        b,
        stride_a,
        stride_b,
        BLOCK_A,
        BLOCK_B,
        (b + BLOCK_B - 1) // BLOCK_B,
        RESIDUAL,
        True,
        tl.float32,
    )
