"""The kernels. Both layouts are tiles [J, BLOCK_C, W] of BLOCK_C channels by J * W pixels.

contiguous:    a step is one of an image's CHUNKS tiles; few lanes share the W pixels, and a thread sums the J
channels_last: a step is a tile of the batch's N * H * W rows, W = 1
"""

# ruff: noqa: N803 - a constexpr is written in capitals
# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl

# these follow the batch size, for which nothing is compiled anew
_RUNTIME = ["values", "total", "steps"]


@triton.jit
def _values_before(step, values, P: tl.constexpr, BLOCK_P: tl.constexpr, CHUNKS: tl.constexpr, LAST: tl.constexpr):
    """A channel's values in the steps before this one."""
    step = step.to(tl.int64)
    if LAST:
        before = tl.minimum(step * BLOCK_P, values)
    else:
        before = step // CHUNKS * P + tl.minimum(step % CHUNKS * BLOCK_P, P)
    return before


@triton.jit
def _start(
    step,
    values,
    C: tl.constexpr,
    P: tl.constexpr,
    BLOCK_P: tl.constexpr,
    CHUNKS: tl.constexpr,
    LAST: tl.constexpr,
):
    """Where a step's tile starts in x, and how many pixels are left from there."""
    if LAST:
        row = step.to(tl.int64) * BLOCK_P
        start = row * C
        left = values - row
    else:
        pixel = step % CHUNKS * BLOCK_P
        start = (step // CHUNKS).to(tl.int64) * (C * P) + pixel
        left = P - pixel
    return start, left


@triton.jit
def channel_tile(
    block,
    C: tl.constexpr,
    P: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
    W: tl.constexpr,
    LAST: tl.constexpr,
):
    """Where a block's channels start in an image, a tile's offsets from there, its channels and its pixels."""
    c = tl.arange(0, BLOCK_C)
    p = tl.arange(0, BLOCK_P // W)[:, None, None] * W + tl.arange(0, W)[None, None, :]  # [J, 1, W]
    start = block.to(tl.int64) * (BLOCK_C if LAST else BLOCK_C * P)
    offset = c[None, :, None] * (1 if LAST else P) + p * (C if LAST else 1)
    return start, offset, block * BLOCK_C + c, p


@triton.jit
def over_pixels(tile):
    """The sum over J and W; of many J by eights: sums of sums are more accurate than one long sum."""
    if tile.shape[0] > 16:
        tile = tl.sum(tl.reshape(tile, (tile.shape[0] // 8, 8, tile.shape[1], tile.shape[2])), 0)
    return tl.sum(tl.sum(tile, 0), 1)  # [BLOCK_C]


@triton.jit(do_not_specialize=_RUNTIME)
def partial_kernel(
    x,
    partials,  # [splits, 2, C]: mean, and sum of squares about it, of each split
    values,
    total,
    steps,
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
    split = program // BLOCKS
    start, offset, c, p = channel_tile(program % BLOCKS, C, P, BLOCK_C, BLOCK_P, W, LAST)
    x += start
    first = split * steps
    last = tl.minimum(first + steps, total)
    begin, left = _start(first, values, C, P, BLOCK_P, CHUNKS, LAST)
    mask = (c < C)[None, :, None] & (p < left)
    value = tl.load(x + begin + offset, mask=mask, other=0.0).to(ACC)
    # sums about the first tile's mean: what cancels is at most as many times the variance as there are steps
    origin = over_pixels(value) / tl.minimum(left, BLOCK_P).to(ACC)
    d = tl.where(mask, value - origin[None, :, None], 0.0)
    sums = d
    squares = d * d
    for i in range(1, last - first):
        begin, left = _start(first + i, values, C, P, BLOCK_P, CHUNKS, LAST)
        mask = (c < C)[None, :, None] & (p < left)
        d = tl.load(x + begin + offset, mask=mask, other=0.0).to(ACC) - origin[None, :, None]
        d = tl.where(mask, d, 0.0)
        sums += d
        squares += d * d
    before = _values_before(first, values, P, BLOCK_P, CHUNKS, LAST)
    count = (_values_before(last, values, P, BLOCK_P, CHUNKS, LAST) - before).to(ACC)
    d_mean = over_pixels(sums) / count
    residual = tl.maximum(over_pixels(squares) - d_mean * d_mean * count, 0.0)
    partials += split.to(tl.int64) * (2 * C) + c
    tl.store(partials, origin + d_mean, mask=c < C)
    tl.store(partials + C, residual, mask=c < C)


@triton.jit
def _over_splits(tile, SPLITS: tl.constexpr, BLOCK: tl.constexpr):
    """By eights: sums of sums are more accurate than one long sum."""
    if SPLITS > 8:
        tile = tl.sum(tl.reshape(tile, (SPLITS // 8, 8, BLOCK)), 0)
    return tl.sum(tile, 0)


@triton.jit(do_not_specialize=_RUNTIME)
def merge_kernel(
    partials,
    mean,
    var,
    values,
    total,
    steps,
    C: tl.constexpr,
    P: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_P: tl.constexpr,
    SPLITS: tl.constexpr,
    CHUNKS: tl.constexpr,
    LAST: tl.constexpr,
    ACC: tl.constexpr,
):
    """Chan's formula over all splits at once: squares about their own means, and of those about the common one."""
    c = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    split = tl.arange(0, SPLITS)
    first = tl.minimum(split * steps, total)
    last = tl.minimum(first + steps, total)
    before = _values_before(first, values, P, BLOCK_P, CHUNKS, LAST)
    count = (_values_before(last, values, P, BLOCK_P, CHUNKS, LAST) - before).to(ACC)[:, None]  # [SPLITS, 1]
    mask = (split * steps < total)[:, None] & (c < C)[None, :]
    place = split[:, None] * (2 * C) + c[None, :]
    means = tl.load(partials + place, mask=mask, other=0.0)  # [SPLITS, BLOCK]
    residuals = tl.load(partials + C + place, mask=mask, other=0.0)
    origin = tl.load(partials + c, mask=c < C, other=0.0)
    common = origin + _over_splits(count * (means - origin[None, :]), SPLITS, BLOCK) / values
    d = means - common[None, :]
    tl.store(mean + c, common, mask=c < C)
    tl.store(var + c, _over_splits(residuals + count * d * d, SPLITS, BLOCK) / values, mask=c < C)


@triton.jit(do_not_specialize=_RUNTIME)
def gradient_kernel(
    x,
    mean,
    d_mean,
    d_var,
    d_x,
    values,
    total,
    steps,
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
    start, offset, c, p = channel_tile(program % BLOCKS, C, P, BLOCK_C, BLOCK_P, W, LAST)
    x += start
    d_x += start
    first = program // BLOCKS * steps
    origin = tl.load(mean + c, mask=c < C, other=0.0).to(ACC)
    slope = tl.zeros((BLOCK_C,), ACC)
    level = tl.zeros((BLOCK_C,), ACC)
    if d_var is not None:
        slope = 2.0 * tl.load(d_var + c, mask=c < C, other=0.0).to(ACC) / values
    if d_mean is not None:
        level = tl.load(d_mean + c, mask=c < C, other=0.0).to(ACC) / values
    for i in range(tl.minimum(steps, total - first)):
        begin, left = _start(first + i, values, C, P, BLOCK_P, CHUNKS, LAST)
        mask = (c < C)[None, :, None] & (p < left)
        value = tl.load(x + begin + offset, mask=mask, other=0.0).to(ACC)
        tl.store(
            d_x + begin + offset,
            slope[None, :, None] * (value - origin[None, :, None]) + level[None, :, None],
            mask=mask,
        )
