"""The kernels. An image is A x B elements at a * STRIDE_A + b * STRIDE_B, and its gate varies along b only.

contiguous:    b counts the pixels of as many channels as make an aligned run, a the runs
channels_last: b counts the pixels, a the channels
"""

# ruff: noqa: N803 - a constexpr is written in capitals
# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl

# splits and chunks follow the batch size, for which nothing is compiled anew
_RUNTIME = ["splits", "chunks"]


@triton.jit
def _attention(maps, scale, shift, index, mask, t, SIGMOID: tl.constexpr, ACC: tl.constexpr):
    value = tl.load(maps + index, mask=mask, other=0.0).to(ACC)
    if SIGMOID:
        if scale is not None:
            value = tl.load(scale + t).to(ACC) * value + tl.load(shift + t).to(ACC)
        value = 1.0 / (1.0 + tl.exp(-value))
    return value


@triton.jit
def _tile(
    chunk,
    tile,
    A: tl.constexpr,
    B: tl.constexpr,
    STRIDE_A: tl.constexpr,
    STRIDE_B: tl.constexpr,
    BLOCK_A: tl.constexpr,
    BLOCK_B: tl.constexpr,
):
    a, b = tl.arange(0, BLOCK_A), tl.arange(0, BLOCK_B)
    mask = (chunk * BLOCK_A + a < A)[:, None] & (tile * BLOCK_B + b < B)[None, :]
    # an image may have 2 ** 31 elements; a tile has fewer
    start = chunk.to(tl.int64) * (BLOCK_A * STRIDE_A) + tile.to(tl.int64) * (BLOCK_B * STRIDE_B)
    return start, a[:, None] * STRIDE_A + b[None, :] * STRIDE_B, mask  # offset and mask [BLOCK_A, BLOCK_B]


@triton.jit(do_not_specialize=_RUNTIME)
def forward_kernel(
    features,
    maps,
    scale,
    shift,
    gated,
    attention,
    splits,
    chunks,
    T: tl.constexpr,
    PIXELS: tl.constexpr,
    A: tl.constexpr,
    B: tl.constexpr,
    STRIDE_A: tl.constexpr,
    STRIDE_B: tl.constexpr,
    BLOCK_A: tl.constexpr,
    BLOCK_B: tl.constexpr,
    TILES: tl.constexpr,
    RESIDUAL: tl.constexpr,
    SIGMOID: tl.constexpr,
    ACC: tl.constexpr,
):
    program = tl.program_id(0)
    split = program % splits
    n = (program // splits // TILES).to(tl.int64)
    tile = program // splits % TILES
    b = tile * BLOCK_B + tl.arange(0, BLOCK_B)
    own = tl.where(split == 0, PIXELS, 0)  # pixels of the map that this program stores
    features += n * (A * B)
    if T == 1:
        m = _attention(maps, scale, shift, n * PIXELS + b % PIXELS, b < B, 0, SIGMOID, ACC)  # [BLOCK_B]
        if SIGMOID:
            tl.store(attention + n * PIXELS + b, m, mask=b < own)
        if RESIDUAL:
            m += 1.0
        gated += n * (A * B)
        for chunk in range(chunks):
            start, offset, mask = _tile(split * chunks + chunk, tile, A, B, STRIDE_A, STRIDE_B, BLOCK_A, BLOCK_B)
            g = tl.load(features + start + offset, mask=mask, other=0.0).to(ACC)
            tl.store(gated + start + offset, g * m[None, :], mask=mask)
    else:
        start, offset, mask = _tile(split, tile, A, B, STRIDE_A, STRIDE_B, BLOCK_A, BLOCK_B)
        g = tl.load(features + start + offset, mask=mask, other=0.0).to(ACC)
        for t in range(T):
            plane = n * T + t
            m = _attention(maps, scale, shift, plane * PIXELS + b % PIXELS, b < B, t, SIGMOID, ACC)
            if SIGMOID:
                tl.store(attention + plane * PIXELS + b, m, mask=b < own)
            if RESIDUAL:
                m += 1.0
            tl.store(gated + (plane * (A * B) + start) + offset, g * m[None, :], mask=mask)


@triton.jit(do_not_specialize=_RUNTIME)
def backward_kernel(
    d_gated,
    features,
    maps,
    scale,
    shift,
    d_features,
    partials,  # [N, splits, T, B]: sum over a split's channels of dy_t * g
    splits,
    chunks,
    T: tl.constexpr,
    PIXELS: tl.constexpr,
    A: tl.constexpr,
    B: tl.constexpr,
    STRIDE_A: tl.constexpr,
    STRIDE_B: tl.constexpr,
    BLOCK_A: tl.constexpr,
    BLOCK_B: tl.constexpr,
    TILES: tl.constexpr,
    RESIDUAL: tl.constexpr,
    SIGMOID: tl.constexpr,
    ACC: tl.constexpr,
):
    program = tl.program_id(0)
    split = program % splits
    n = (program // splits // TILES).to(tl.int64)
    tile = program // splits % TILES
    b = tile * BLOCK_B + tl.arange(0, BLOCK_B)
    features += n * (A * B)
    d_features += n * (A * B)
    partials += (n * splits + split) * (T * B)
    if T == 1:
        m = _attention(maps, scale, shift, n * PIXELS + b % PIXELS, b < B, 0, SIGMOID, ACC)
        if RESIDUAL:
            m += 1.0
        d_gated += n * (A * B)
        d_m = tl.zeros((BLOCK_A, BLOCK_B), ACC)
        for chunk in range(chunks):
            start, offset, mask = _tile(split * chunks + chunk, tile, A, B, STRIDE_A, STRIDE_B, BLOCK_A, BLOCK_B)
            g = tl.load(features + start + offset, mask=mask, other=0.0).to(ACC)
            d_y = tl.load(d_gated + start + offset, mask=mask, other=0.0).to(ACC)
            tl.store(d_features + start + offset, d_y * m[None, :], mask=mask)
            d_m += d_y * g
        tl.store(partials + b, tl.sum(d_m, 0), mask=b < B)
    else:
        start, offset, mask = _tile(split, tile, A, B, STRIDE_A, STRIDE_B, BLOCK_A, BLOCK_B)
        g = tl.load(features + start + offset, mask=mask, other=0.0).to(ACC)
        d_g = tl.zeros((BLOCK_A, BLOCK_B), ACC)
        for t in range(T):
            plane = n * T + t
            m = _attention(maps, scale, shift, plane * PIXELS + b % PIXELS, b < B, t, SIGMOID, ACC)
            if RESIDUAL:
                m += 1.0
            d_y = tl.load(d_gated + (plane * (A * B) + start) + offset, mask=mask, other=0.0).to(ACC)
            d_g += d_y * m[None, :]
            tl.store(partials + t * B + b, tl.sum(d_y * g, 0), mask=b < B)
        tl.store(d_features + start + offset, d_g, mask=mask)


@triton.jit(do_not_specialize=_RUNTIME)
def map_gradient_kernel(
    partials,
    d_attention,
    maps,
    scale,
    shift,
    d_maps,
    d_vectors,  # [N * TILES, T, 2]: sums over a tile's pixels for the gradients of scale and shift
    splits,
    T: tl.constexpr,
    PIXELS: tl.constexpr,
    B: tl.constexpr,
    BLOCK: tl.constexpr,
    TILES: tl.constexpr,
    SIGMOID: tl.constexpr,
    ACC: tl.constexpr,
):
    program = tl.program_id(0)
    t = program % T
    tile = program // T % TILES
    n = (program // T // TILES).to(tl.int64)
    j = tile * BLOCK + tl.arange(0, BLOCK)
    mask = j < PIXELS
    index = (n * T + t) * PIXELS + j
    d_m = tl.zeros((BLOCK,), ACC)
    for split in range(splits):
        for row in range(B // PIXELS):
            place = ((n * splits + split) * T + t) * B + row * PIXELS + j
            d_m += tl.load(partials + place, mask=mask, other=0.0)
    if d_attention is not None:
        d_m += tl.load(d_attention + index, mask=mask, other=0.0).to(ACC)
    if SIGMOID:
        m = _attention(maps, scale, shift, index, mask, t, SIGMOID, ACC)
        s = tl.load(maps + index, mask=mask, other=0.0).to(ACC)
        d_logit = d_m * m * (1.0 - m)
        d_m = d_logit * tl.load(scale + t).to(ACC)
        tl.store(d_vectors + ((n * TILES + tile) * T + t) * 2, tl.sum(d_logit * s, 0))
        tl.store(d_vectors + ((n * TILES + tile) * T + t) * 2 + 1, tl.sum(d_logit, 0))
    tl.store(d_maps + index, d_m, mask=mask)
