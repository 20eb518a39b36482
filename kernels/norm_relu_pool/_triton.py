"""The kernels. A program pools a block of channels of an image; tiles are those of batch_statistics.

With NORM, x is taken relative to its batch's mean, and scale is weight / sqrt(var + eps).
"""

# ruff: noqa: N803 - a constexpr is written in capitals
# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl

from abn_fast.kernels.batch_statistics._triton import channel_tile, over_pixels


@triton.jit
def _line(mean, var, weight, bias, c, inside, EPS: tl.constexpr, NORM: tl.constexpr, ACC: tl.constexpr):
    """Origin, scale and shift [BLOCK_C]: relu(scale * (x - origin) + shift)."""
    scale = tl.load(weight + c, mask=inside, other=0.0).to(ACC)
    shift = tl.load(bias + c, mask=inside, other=0.0).to(ACC)
    if NORM:
        origin = tl.load(mean + c, mask=inside, other=0.0)
        scale *= tl.rsqrt(tl.load(var + c, mask=inside, other=1.0) + EPS)
    else:
        origin = tl.zeros_like(scale)
    return origin, scale, shift


@triton.jit
def _terms(pointers, inside, left, origin, scale, shift, NORM: tl.constexpr, SAVES: tl.constexpr, ACC: tl.constexpr):
    """What a tile adds to the sum of active x, to the number of active pixels and to the sum of relu."""
    value = tl.load(pointers, mask=inside & left, other=0.0).to(ACC)
    if NORM:
        value -= origin[None, :, None]
    line = scale[None, :, None] * value + shift[None, :, None]
    # NaN counts as active: it must reach the sum
    idle = (line <= 0.0) | (left == 0)
    number = tl.where(idle, 0.0, 1.0).to(ACC)
    if SAVES:
        positive = line * number  # an addition and a product in one instruction
    else:
        positive = tl.where(idle, 0.0, line)
    return value * number, number, positive


@triton.jit
def pool_kernel(
    x,
    mean,
    var,
    weight,
    bias,
    pooled,
    sums,
    counts,
    C: tl.constexpr,
    P: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
    W: tl.constexpr,
    BLOCKS: tl.constexpr,
    CHUNKS: tl.constexpr,
    EPS: tl.constexpr,
    NORM: tl.constexpr,
    SAVES: tl.constexpr,
    LAST: tl.constexpr,
    ACC: tl.constexpr,
):
    program = tl.program_id(0)
    n = (program // BLOCKS).to(tl.int64)
    start, offset, c, p = channel_tile(program % BLOCKS, C, P, BLOCK_C, BLOCK_P, W, LAST)
    x += n * (C * P) + start
    inside = c < C
    wide = inside[None, :, None]
    origin, scale, shift = _line(mean, var, weight, bias, c, inside, EPS, NORM, ACC)
    sum_x, number, total = _terms(x + offset, wide, p < P, origin, scale, shift, NORM, SAVES, ACC)
    for chunk in range(1, CHUNKS):
        pixel = tl.cast(chunk * BLOCK_P, tl.int64)
        pointers = x + pixel * (C if LAST else 1) + offset
        more_x, more, more_total = _terms(pointers, wide, p < P - pixel, origin, scale, shift, NORM, SAVES, ACC)
        sum_x += more_x
        number += more
        total += more_total
    out = n * C + c
    if NORM:
        x_sum, count = over_pixels(sum_x), over_pixels(number)
        positive = scale * x_sum + shift * count
        positive = tl.where(positive <= 0.0, 0.0, positive)  # where the two cancel
        tl.store(pooled + out, positive * (1.0 / P), mask=inside)
    else:
        tl.store(pooled + out, over_pixels(total) * (1.0 / P), mask=inside)
    if SAVES:
        if not NORM:
            x_sum, count = over_pixels(sum_x), over_pixels(number)
        tl.store(sums + out, x_sum, mask=inside)
        tl.store(counts + out, count.to(counts.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["batch", "values"])
def vector_gradient_kernel(
    d_pooled,
    sums,
    counts,
    var,
    weight,
    d_weight,
    d_bias,
    slope,  # [C]: what the statistics take away from the gradient of x, along x - mean
    level,  # [C]: and along 1
    batch,
    values,
    C: tl.constexpr,
    P: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,
    EPS: tl.constexpr,
    NORM: tl.constexpr,
    ACC: tl.constexpr,
):
    n = tl.arange(0, BLOCK_N)
    c = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = c < C
    of_scale = tl.zeros((BLOCK_N, BLOCK_C), ACC)
    of_shift = tl.zeros((BLOCK_N, BLOCK_C), ACC)
    for first in range(0, batch, BLOCK_N):
        mask = (n < batch - first)[:, None] & inside[None, :]
        place = (first + n).to(tl.int64)[:, None] * C + c[None, :]
        d = tl.load(d_pooled + place, mask=mask, other=0.0).to(ACC)
        of_scale += d * tl.load(sums + place, mask=mask, other=0.0)
        of_shift += d * tl.load(counts + place, mask=mask, other=0).to(ACC)
    d_scale = tl.sum(of_scale, 0) * (1.0 / P)
    d_shift = tl.sum(of_shift, 0) * (1.0 / P)
    if NORM:
        r = tl.rsqrt(tl.load(var + c, mask=inside, other=1.0) + EPS)
        d_scale *= r
        per_value = -r * tl.load(weight + c, mask=inside, other=0.0).to(ACC) / values
        tl.store(slope + c, per_value * r * d_scale, mask=inside)
        tl.store(level + c, per_value * d_shift, mask=inside)
    tl.store(d_weight + c, d_scale, mask=inside)
    tl.store(d_bias + c, d_shift, mask=inside)


@triton.jit
def gradient_kernel(
    d_pooled,
    x,
    mean,
    var,
    weight,
    bias,
    slope,
    level,
    d_x,
    C: tl.constexpr,
    P: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
    W: tl.constexpr,
    BLOCKS: tl.constexpr,
    CHUNKS: tl.constexpr,
    EPS: tl.constexpr,
    NORM: tl.constexpr,
    LAST: tl.constexpr,
    ACC: tl.constexpr,
):
    program = tl.program_id(0)
    n = (program // BLOCKS).to(tl.int64)
    start, offset, c, p = channel_tile(program % BLOCKS, C, P, BLOCK_C, BLOCK_P, W, LAST)
    start += n * (C * P)
    inside = c < C
    origin, scale, shift = _line(mean, var, weight, bias, c, inside, EPS, NORM, ACC)
    active = scale * tl.load(d_pooled + n * C + c, mask=inside, other=0.0).to(ACC) * (1.0 / P)
    if NORM:
        slopes = tl.load(slope + c, mask=inside, other=0.0)
        levels = tl.load(level + c, mask=inside, other=0.0)
        active += levels
    for chunk in range(CHUNKS):
        pixel = tl.cast(chunk * BLOCK_P, tl.int64)
        mask = inside[None, :, None] & (p < P - pixel)
        place = start + pixel * (C if LAST else 1)
        value = tl.load(x + place + offset, mask=mask, other=0.0).to(ACC)
        if NORM:
            value -= origin[None, :, None]
        idle = scale[None, :, None] * value + shift[None, :, None] <= 0.0
        if NORM:
            d = tl.where(idle, levels[None, :, None], active[None, :, None]) + slopes[None, :, None] * value
        else:
            d = tl.where(idle, 0.0, active[None, :, None])
        tl.store(d_x + place + offset, d, mask=mask)
