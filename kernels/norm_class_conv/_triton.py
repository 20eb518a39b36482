"""The kernels around torch's products, and the product that gives the input's gradient.

fold, weight_gradients:  from W and the gradient of W' to those of the norm, [K, C] in tiles
input_gradient:          diag(s) W^T dz + slope * (x - mean) + level, without a second pass over x
statistics_gradient:     the same in the place of torch's W^T dz
"""

# ruff: noqa: N803 - a constexpr is written in capitals
# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl


@triton.jit
def _line(norm_weight, mean, var, eps, c, mask, ACC: tl.constexpr):
    """The scale of a norm, its mean and 1 / sqrt(var + eps)."""
    r = 1.0 / tl.sqrt(tl.load(var + c, mask=mask, other=1.0).to(ACC) + eps)
    scale = tl.load(norm_weight + c, mask=mask, other=0.0).to(ACC) * r
    return scale, tl.load(mean + c, mask=mask, other=0.0).to(ACC), r


@triton.jit(do_not_specialize=["eps"])
def fold_kernel(
    weight,
    norm_weight,
    norm_bias,
    mean,
    var,
    folded,
    shift,
    eps,
    K: tl.constexpr,
    C: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_C: tl.constexpr,
    ACC: tl.constexpr,
):
    k = (tl.program_id(0) * BLOCK_K + tl.arange(0, BLOCK_K)).to(tl.int64)
    sums = tl.zeros((BLOCK_K, BLOCK_C), ACC)
    for start in range(0, C, BLOCK_C):
        c = start + tl.arange(0, BLOCK_C)
        mask = (k < K)[:, None] & (c < C)[None, :]
        place = k[:, None] * C + c[None, :]
        scale, centre, _ = _line(norm_weight, mean, var, eps, c, c < C, ACC)
        w = tl.load(weight + place, mask=mask, other=0.0).to(ACC)
        rounded = (w * scale[None, :]).to(folded.dtype.element_ty)
        tl.store(folded + place, rounded, mask=mask)
        bias = tl.load(norm_bias + c, mask=c < C, other=0.0).to(ACC)
        sums += w * bias[None, :] - rounded.to(ACC) * centre[None, :]
    tl.store(shift + k, tl.sum(sums, 1), mask=k < K)


@triton.jit(do_not_specialize=["eps"])
def weight_gradients_kernel(
    d_folded,
    d_shift,
    weight,
    norm_weight,
    norm_bias,
    mean,
    var,
    d_weight,
    d_norm_weight,
    d_norm_bias,
    d_mean,
    d_var,
    eps,
    K: tl.constexpr,
    C: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_C: tl.constexpr,
    ACC: tl.constexpr,
):
    c = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    scale, centre, r = _line(norm_weight, mean, var, eps, c, c < C, ACC)
    t = tl.load(norm_bias + c, mask=c < C, other=0.0).to(ACC) - centre * scale
    scale_sums = tl.zeros((BLOCK_K, BLOCK_C), ACC)
    bias_sums = tl.zeros((BLOCK_K, BLOCK_C), ACC)
    for start in range(0, K, BLOCK_K):
        k = (start + tl.arange(0, BLOCK_K)).to(tl.int64)
        mask = (k < K)[:, None] & (c < C)[None, :]
        place = k[:, None] * C + c[None, :]
        d = tl.load(d_folded + place, mask=mask, other=0.0).to(ACC)
        w = tl.load(weight + place, mask=mask, other=0.0).to(ACC)
        d_w = d * scale[None, :]
        if d_shift is not None:
            d_s = tl.load(d_shift + k, mask=k < K, other=0.0).to(ACC)
            bias_sums += w * d_s[:, None]
            d_w += d_s[:, None] * t[None, :]
        tl.store(d_weight + place, d_w, mask=mask)
        scale_sums += d * w
    d_bias = tl.sum(bias_sums, 0)
    d_scale = tl.sum(scale_sums, 0) - d_bias * centre
    tl.store(d_norm_weight + c, d_scale * r, mask=c < C)
    tl.store(d_norm_bias + c, d_bias, mask=c < C)
    tl.store(d_mean + c, -d_bias * scale, mask=c < C)
    tl.store(d_var + c, -0.5 * d_scale * scale * r * r, mask=c < C)


@triton.jit
def _normed_gradient(
    d_normed, value, norm_weight, mean, var, d_mean, d_var, eps, count, c, C: tl.constexpr, ACC: tl.constexpr
):
    """The gradient of x, [BLOCK_C, BLOCK_P], from that of norm(x) over norm_weight and those of its statistics."""
    scale, centre, _ = _line(norm_weight, mean, var, eps, c, c < C, ACC)
    slope = 2.0 * tl.load(d_var + c, mask=c < C, other=0.0).to(ACC) / count
    level = tl.load(d_mean + c, mask=c < C, other=0.0).to(ACC) / count
    return d_normed * scale[:, None] + (slope[:, None] * (value - centre[:, None]) + level[:, None])


@triton.jit(do_not_specialize=["eps", "count"])
def input_gradient_kernel(
    d_z,
    weight,
    x,
    norm_weight,
    mean,
    var,
    d_mean,
    d_var,
    d_x,
    eps,
    count,  # N * H * W
    K: tl.constexpr,
    C: tl.constexpr,
    P: tl.constexpr,
    LAST: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCKS: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
    ACC: tl.constexpr,
):
    program = tl.program_id(0)
    c = program % BLOCKS * BLOCK_C + tl.arange(0, BLOCK_C)
    tile = (program // BLOCKS).to(tl.int64)
    j, k = tl.arange(0, BLOCK_P), tl.arange(0, BLOCK_K)
    # contiguous: a tile of an image's pixels; channels_last: of all rows
    if LAST:
        first = tile * BLOCK_P
        left = count - first
        start_z, start_x = first * K, first * C
        pixel, channel = C, 1
    else:
        tiles: tl.constexpr = (P + BLOCK_P - 1) // BLOCK_P
        first = tile % tiles * BLOCK_P
        left = P - first
        start_z, start_x = tile // tiles * (K * P) + first, tile // tiles * (C * P) + first
        pixel, channel = 1, P
    # the product's rows are those of memory, which makes its loads and stores wide
    if LAST:
        z_tile = d_z + start_z + (j[:, None] * K + k[None, :])
        w_tile = weight + (k[:, None] * C + c[None, :])
        acc = tl.zeros((BLOCK_P, BLOCK_C), ACC)
    else:
        z_tile = d_z + start_z + (k[:, None] * P + j[None, :])
        w_tile = weight + (k[None, :] * C + c[:, None])
        acc = tl.zeros((BLOCK_C, BLOCK_P), ACC)
    for chunk in range(tl.cdiv(K, BLOCK_K)):
        known = k < K - chunk * BLOCK_K
        step = tl.cast(chunk, tl.int64) * BLOCK_K
        if LAST:
            a = tl.load(z_tile + step, mask=(j < left)[:, None] & known[None, :], other=0.0)
            b = tl.load(w_tile + step * C, mask=known[:, None] & (c < C)[None, :], other=0.0)
        else:
            a = tl.load(w_tile + step * C, mask=(c < C)[:, None] & known[None, :], other=0.0)
            b = tl.load(z_tile + step * P, mask=known[:, None] & (j < left)[None, :], other=0.0)
        acc = tl.dot(a.to(OPERAND), b.to(OPERAND), acc, input_precision=PRECISION, out_dtype=ACC)
    if LAST:
        acc = tl.trans(acc)
    mask = (c < C)[:, None] & (j < left)[None, :]
    place = start_x + (c.to(tl.int64)[:, None] * channel + j[None, :] * pixel)
    value = tl.load(x + place, mask=mask, other=0.0).to(ACC)
    gradient = _normed_gradient(acc, value, norm_weight, mean, var, d_mean, d_var, eps, count, c, C, ACC)
    tl.store(d_x + place, gradient, mask=mask)


@triton.jit(do_not_specialize=["eps", "count"])
def statistics_gradient_kernel(
    d_x,  # in place: the gradient of norm(x) over norm_weight, then that of x
    x,
    norm_weight,
    mean,
    var,
    d_mean,
    d_var,
    eps,
    count,
    C: tl.constexpr,
    P: tl.constexpr,
    LAST: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCKS_C: tl.constexpr,
    BLOCKS_P: tl.constexpr,
    ACC: tl.constexpr,
):
    program = tl.program_id(0)
    block = program % BLOCKS_C
    tile = program // BLOCKS_C % BLOCKS_P
    # a tensor may have more than 2 ** 31 elements; a tile has fewer
    n = (program // BLOCKS_C // BLOCKS_P).to(tl.int64)
    channel, pixel = (1, C) if LAST else (P, 1)
    start = n * (C * P) + block.to(tl.int64) * (BLOCK_C * channel) + tile.to(tl.int64) * (BLOCK_P * pixel)
    i, j = tl.arange(0, BLOCK_C), tl.arange(0, BLOCK_P)
    c = block * BLOCK_C + i
    mask = (c < C)[:, None] & (tile * BLOCK_P + j < P)[None, :]
    place = start + (i[:, None] * channel + j[None, :] * pixel)
    d_normed = tl.load(d_x + place, mask=mask, other=0.0).to(ACC)
    value = tl.load(x + place, mask=mask, other=0.0).to(ACC)
    gradient = _normed_gradient(d_normed, value, norm_weight, mean, var, d_mean, d_var, eps, count, c, C, ACC)
    tl.store(d_x + place, gradient, mask=mask)
