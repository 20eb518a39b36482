"""The kernels. A program pools a block of channels of an image; tiles are those of batch_statistics."""

# ruff: noqa: N803 - a constexpr is written in capitals
# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl

from abn_fast.kernels.batch_statistics._triton import channel_tile, over_pixels


@triton.jit
def _sum(x, residual, place, mask, ACC: tl.constexpr):
    left = tl.load(x + place, mask=mask, other=0.0).to(ACC)
    return left + tl.load(residual + place, mask=mask, other=0.0).to(ACC)


@triton.jit
def pool_kernel(
    x,
    residual,
    pooled,
    C: tl.constexpr,
    P: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
    W: tl.constexpr,
    BLOCKS: tl.constexpr,
    CHUNKS: tl.constexpr,
    LAST: tl.constexpr,
    ACC: tl.constexpr,
):
    program = tl.program_id(0)
    n = (program // BLOCKS).to(tl.int64)
    start, offset, c, p = channel_tile(program % BLOCKS, C, P, BLOCK_C, BLOCK_P, W, LAST)
    start += n * (C * P)
    inside = c < C
    value = _sum(x, residual, start + offset, inside[None, :, None] & (p < P), ACC)
    # not the greater of two: NaN must reach the sum
    total = tl.where(value <= 0.0, 0.0, value)
    for chunk in range(1, CHUNKS):
        pixel = tl.cast(chunk * BLOCK_P, tl.int64)
        mask = inside[None, :, None] & (p < P - pixel)
        value = _sum(x, residual, start + pixel * (C if LAST else 1) + offset, mask, ACC)
        total += tl.where(value <= 0.0, 0.0, value)
    tl.store(pooled + n * C + c, over_pixels(total) * (1.0 / P), mask=inside)


@triton.jit
def gradient_kernel(
    d_pooled,
    x,
    residual,
    d_sum,
    C: tl.constexpr,
    P: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
    W: tl.constexpr,
    BLOCKS: tl.constexpr,
    CHUNKS: tl.constexpr,
    LAST: tl.constexpr,
    ACC: tl.constexpr,
):
    program = tl.program_id(0)
    n = (program // BLOCKS).to(tl.int64)
    start, offset, c, p = channel_tile(program % BLOCKS, C, P, BLOCK_C, BLOCK_P, W, LAST)
    start += n * (C * P)
    inside = c < C
    active = tl.load(d_pooled + n * C + c, mask=inside, other=0.0).to(ACC) * (1.0 / P)
    for chunk in range(CHUNKS):
        pixel = tl.cast(chunk * BLOCK_P, tl.int64)
        mask = inside[None, :, None] & (p < P - pixel)
        place = start + pixel * (C if LAST else 1) + offset
        value = _sum(x, residual, place, mask, ACC)
        tl.store(d_sum + place, tl.where(value <= 0.0, 0.0, active[None, :, None]), mask=mask)
