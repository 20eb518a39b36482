"""The kernels. Tiles are [classes, pixels] of one image, in either layout; accumulated in float32.

A tap t = 3 * (dy + 1) + (dx + 1) is the product of map_conv's weight at (dy, dx) with the evidence of a pixel. Products
with taps have 16 rows, the least of a matrix unit; row 9 counts in the backward, the others are zero.

A program moves over blocks of classes (ALONG_CLASSES, its tile of pixels fixed) or over tiles of pixels (its block of
classes fixed). `planes` are what a program stores of the taps, summed as far as they lie inside its tile: 1 of whole
images, 3 (a sum for each dy) of whole rows, 9 otherwise.
"""

# ruff: noqa: N803, N806 - a constexpr is written in capitals
# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl

# what follows the batch size, for which nothing is compiled anew
_RUNTIME = ["splits", "bands", "steps"]


@triton.jit
def _vector(x, k, K: tl.constexpr, ACC: tl.constexpr):
    return tl.load(x + k, mask=k < K, other=0.0).to(ACC)


@triton.jit
def _place(
    n,
    block,
    tile,
    K: tl.constexpr,
    PIXELS: tl.constexpr,
    STRIDE_K: tl.constexpr,
    STRIDE_P: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_P: tl.constexpr,
    TILE: tl.constexpr,
):
    """Where a tile starts, in int64, and offsets and mask inside it, [classes, pixels]."""
    k, p = tl.arange(0, BLOCK_K), tl.arange(0, BLOCK_P)
    mask = (block * BLOCK_K + k < K)[:, None] & _inside(tile, p, PIXELS, TILE)[None, :]
    start = n * (K * PIXELS) + block.to(tl.int64) * (BLOCK_K * STRIDE_K) + tile.to(tl.int64) * (TILE * STRIDE_P)
    return start, k[:, None] * STRIDE_K + p[None, :] * STRIDE_P, mask


@triton.jit
def _inside(tile, p, PIXELS: tl.constexpr, TILE: tl.constexpr):
    return p < tl.minimum(TILE, PIXELS - tile * TILE)


@triton.jit
def _weights(map_weight, k, K: tl.constexpr, DTYPE: tl.constexpr, ACC: tl.constexpr):
    """The taps' weights, rounded as the evidence is, [16, classes]."""
    t = tl.arange(0, 16)
    weights = tl.load(map_weight + t[:, None] + 9 * k[None, :], mask=(t < 9)[:, None] & (k < K)[None, :], other=0.0)
    return weights.to(ACC).to(DTYPE)


@triton.jit
def _shifted(
    d_score,
    n,
    tile,
    H: tl.constexpr,
    W: tl.constexpr,
    BLOCK_P: tl.constexpr,
    TILE: tl.constexpr,
    HALO: tl.constexpr,
    ACC: tl.constexpr,
):
    """What the taps of each pixel are multiplied with, [16, pixels]: the score's gradient where they went; row 9: 1."""
    t, p = tl.arange(0, 16)[:, None], tl.arange(0, BLOCK_P)[None, :]
    dy, dx = 1 - t // 3, 1 - t % 3
    inside = _inside(tile, p, H * W, TILE)
    d_score += n * (H * W)
    if HALO > 0:  # whole rows: those, one above and one below are read once
        place = tl.arange(0, HALO)
        pixel = tile * TILE - W + place
        rows = tl.load(d_score + pixel, mask=(pixel >= 0) & (pixel < H * W) & (place < TILE + 2 * W), other=0.0).to(ACC)
        x = p % W + dx
        index = tl.minimum(tl.maximum(p + W + dy * W + dx, 0), HALO - 1)
        value = tl.gather(rows, tl.reshape(index, [16 * BLOCK_P]), 0)
        value = tl.where((t < 9) & (x >= 0) & (x < W) & inside, tl.reshape(value, [16, BLOCK_P]), 0.0)
    else:
        pixel = tile * TILE + p
        y, x = pixel // W + dy, pixel % W + dx
        valid = (t < 9) & (x >= 0) & (x < W) & (y >= 0) & (y < H) & inside
        value = tl.load(d_score + y * W + x, mask=valid, other=0.0).to(ACC)
    return tl.where((t == 9) & inside, 1.0, value)


@triton.jit
def _store_planes(
    taps,
    partials,
    tile,
    H: tl.constexpr,
    W: tl.constexpr,
    BLOCK_P: tl.constexpr,
    TILE: tl.constexpr,
    PLANES: tl.constexpr,
):
    """Store taps [16, pixels] of a tile as the planes [PLANES, H * W] of one program."""
    t, p = tl.arange(0, 16)[:, None], tl.arange(0, BLOCK_P)[None, :]
    place = tile * TILE + p
    inside = _inside(tile, p, H * W, TILE)
    if PLANES == 9:
        tl.store(partials + t * (H * W) + place, taps, mask=(t < 9) & inside)
    else:
        dy, dx = t // 3 - 1, t % 3 - 1
        if PLANES == 3:
            dy = dy * 0
        y, x = place // W + dy, p % W + dx
        valid = (t < 9) & (x >= 0) & (x < W) & (y >= 0) & (y < H)
        index = tl.minimum(tl.maximum(p + dy * W + dx, 0), BLOCK_P - 1) + t * BLOCK_P
        moved = tl.gather(tl.reshape(taps, [16 * BLOCK_P]), tl.reshape(index, [16 * BLOCK_P]), 0)
        moved = tl.where(valid, tl.reshape(moved, [16, BLOCK_P]), 0.0)
        column = tile * TILE + tl.arange(0, BLOCK_P)
        kept = _inside(tile, tl.arange(0, BLOCK_P), H * W, TILE)
        if PLANES == 1:
            tl.store(partials + column, tl.sum(moved, 0), mask=kept)
        else:
            for row in tl.static_range(3):
                tl.store(partials + row * (H * W) + column, tl.sum(tl.where(t // 3 == row, moved, 0.0), 0), mask=kept)


@triton.jit
def _log1p(a, DTYPE: tl.constexpr):
    u = 1.0 + a
    if DTYPE.primitive_bitwidth == 16:
        y = tl.log(u)  # what 1 + a loses is less than a's own rounding
    else:
        y = tl.log(u) + tl.where(a < 1.0, a - (u - 1.0), 0.0)
    return y


@triton.jit(do_not_specialize=["total", "share"])
def statistics_kernel(
    z,
    partials,  # [groups, 2, K]: mean and sum of squares about it, of each group
    total,
    share,
    K: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_P: tl.constexpr,
    ACC: tl.constexpr,
):
    """A group is `share` of the `total` images, or pixels of the whole batch in channels_last."""
    blocks: tl.constexpr = (K + BLOCK_K - 1) // BLOCK_K
    tiles: tl.constexpr = (PIXELS + BLOCK_P - 1) // BLOCK_P
    block, group = tl.program_id(0) % blocks, tl.program_id(0) // blocks
    first = group.to(tl.int64) * share
    size = tl.minimum(first + share, total) - first
    k, p = tl.arange(0, BLOCK_K), tl.arange(0, BLOCK_P)
    kept = (block * BLOCK_K + k < K)[:, None]
    z += block.to(tl.int64) * (BLOCK_K * (1 if CHANNELS_LAST else PIXELS))
    if CHANNELS_LAST:
        offset = k[:, None] + p[None, :] * K
        steps = (size + BLOCK_P - 1) // BLOCK_P
        count = size
        inside = (p < size)[None, :]
        start = first * K
        initial = tl.minimum(size, BLOCK_P).to(ACC)
    else:
        offset = k[:, None] * PIXELS + p[None, :]
        steps = size * tiles
        count = size * PIXELS
        inside = (p < PIXELS)[None, :]
        start = first * (K * PIXELS)
        initial = min(PIXELS, BLOCK_P)
    value = tl.load(z + start + offset, mask=kept & inside, other=0.0).to(ACC)
    pivot = tl.sum(value, 1) / initial  # near the mean: squares about it do not cancel
    value = tl.where(inside, value - pivot[:, None], 0.0)
    sums, squares = value, value * value
    for step in range(1, steps):
        if CHANNELS_LAST:
            start = (first + step * BLOCK_P) * K
            inside = (step * BLOCK_P + p < size)[None, :]
        else:
            start = (first + step // tiles) * (K * PIXELS) + (step % tiles) * BLOCK_P
            inside = ((step % tiles) * BLOCK_P + p < PIXELS)[None, :]
        value = tl.load(z + start + offset, mask=kept & inside, other=0.0).to(ACC)
        value = tl.where(inside, value - pivot[:, None], 0.0)
        sums += value
        squares += value * value
    moved = tl.sum(sums, 1)
    mean = moved / count.to(ACC)
    place = partials + group * (2 * K) + block * BLOCK_K + k
    tl.store(place, pivot + mean, mask=block * BLOCK_K + k < K)
    tl.store(place + K, tl.maximum(tl.sum(squares, 1) - moved * mean, 0.0), mask=block * BLOCK_K + k < K)


@triton.jit(do_not_specialize=["groups", "total", "share"])
def merge_kernel(
    partials,
    weight,
    bias,
    vectors,  # [5, K]: mean, variance, 1 / deviation, scale, shift
    groups,
    total,
    share,
    K: tl.constexpr,
    UNIT: tl.constexpr,  # values of a class in each of the total
    EPS: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_GROUPS: tl.constexpr,
    ACC: tl.constexpr,
):
    k = tl.program_id(0) * BLOCK_K + tl.arange(0, BLOCK_K)
    row = tl.arange(0, BLOCK_GROUPS)
    whole = total.to(ACC)
    mean = tl.zeros((BLOCK_K,), ACC)
    for chunk in range(0, groups, BLOCK_GROUPS):
        group = chunk + row
        size = tl.minimum(total - group.to(tl.int64) * share, share).to(ACC)
        mask = (group < groups)[:, None] & (k < K)[None, :]
        means = tl.load(partials + group[:, None] * (2 * K) + k[None, :], mask=mask, other=0.0)
        mean += tl.sum(means * (size / whole)[:, None], 0)
    squares = tl.zeros((BLOCK_K,), ACC)
    for chunk in range(0, groups, BLOCK_GROUPS):
        group = chunk + row
        size = tl.minimum(total - group.to(tl.int64) * share, share).to(ACC)
        mask = (group < groups)[:, None] & (k < K)[None, :]
        place = partials + group[:, None] * (2 * K) + k[None, :]
        away = tl.load(place, mask=mask, other=0.0) - mean[None, :]
        inner = tl.load(place + K, mask=mask, other=0.0)
        squares += tl.sum(tl.where(mask, inner + away * away * (size * UNIT)[:, None], 0.0), 0)
    variance = squares / (whole * UNIT)
    inverse = 1.0 / tl.sqrt(variance + EPS)
    scale = _vector(weight, k, K, ACC) * inverse
    shift = _vector(bias, k, K, ACC) - scale * mean
    tl.store(vectors + k, mean, mask=k < K)
    tl.store(vectors + K + k, variance, mask=k < K)
    tl.store(vectors + 2 * K + k, inverse, mask=k < K)
    tl.store(vectors + 3 * K + k, scale, mask=k < K)
    tl.store(vectors + 4 * K + k, shift, mask=k < K)


@triton.jit(do_not_specialize=_RUNTIME)
def apply_kernel(
    z,
    scale,
    shift,
    map_weight,  # none: the score is the sum of log(1 + a)
    partials,  # [N, splits, PLANES, H * W]
    pooled,  # [N, bands, K]: sums over a band of pixels, divided by H * W
    splits,
    bands,
    steps,
    K: tl.constexpr,
    H: tl.constexpr,
    W: tl.constexpr,
    STRIDE_K: tl.constexpr,
    STRIDE_P: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_P: tl.constexpr,
    TILE: tl.constexpr,
    PLANES: tl.constexpr,
    ALONG_CLASSES: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
    ACC: tl.constexpr,
):
    program = tl.program_id(0)
    split, band = program % splits, program // splits % bands
    n = (program // splits // bands).to(tl.int64)
    dtype: tl.constexpr = z.dtype.element_ty
    partials += (n * splits + split) * (PLANES * H * W)
    pooled += (n * bands + band) * K
    lane = tl.arange(0, BLOCK_P)
    # sums over pixels across lanes cost more than a product of sums of four with ones
    QUADS: tl.constexpr = BLOCK_P // 4
    SIXTEEN: tl.constexpr = ALONG_CLASSES and OPERAND.primitive_bitwidth == 16
    BY_PRODUCT: tl.constexpr = SIXTEEN and TILE % 4 == 0 and H * W % 4 == 0 and QUADS >= 16
    if map_weight is None:
        score = tl.zeros((BLOCK_P,), ACC)
    else:
        score = tl.zeros((16, BLOCK_P), ACC)
    if BY_PRODUCT:
        ones = (tl.arange(0, 16) == 0)[:, None] & _inside(band, 4 * tl.arange(0, QUADS), H * W, TILE)[None, :]
        ones = tl.where(ones, 1.0, 0.0).to(OPERAND)
    total = tl.zeros((BLOCK_K, BLOCK_P), ACC)
    for step in range(steps):
        block = split * steps + step if ALONG_CLASSES else split
        tile = band if ALONG_CLASSES else band * steps + step
        k = block * BLOCK_K + tl.arange(0, BLOCK_K)
        start, offset, mask = _place(n, block, tile, K, H * W, STRIDE_K, STRIDE_P, BLOCK_K, BLOCK_P, TILE)
        value = tl.load(z + start + offset, mask=mask, other=0.0).to(ACC)
        value = value * _vector(scale, k, K, ACC)[:, None] + _vector(shift, k, K, ACC)[:, None]
        a = tl.maximum(value, 0.0, propagate_nan=tl.PropagateNan.ALL)
        if TILE != BLOCK_P or H * W % TILE != 0:
            a = tl.where(_inside(tile, lane, H * W, TILE)[None, :], a, 0.0)
        if map_weight is None:
            part = tl.sum(_log1p(a, dtype), 0)
        else:
            operand = a.to(dtype).to(OPERAND)
            weights = _weights(map_weight, k, K, dtype, ACC).to(OPERAND)
            part = tl.dot(weights, operand, input_precision=PRECISION, out_dtype=ACC)
        if ALONG_CLASSES:
            score += part
            if BY_PRODUCT:
                quads = tl.sum(tl.reshape(a, [BLOCK_K, QUADS, 4]), 2).to(dtype).to(OPERAND)
                pool = tl.sum(tl.dot(ones, tl.trans(quads), out_dtype=ACC), 0)
            else:
                pool = tl.sum(a, 1)
            tl.store(pooled + k, pool * (1.0 / (H * W)), mask=k < K)
        else:
            total += a
            _store_score(part, partials, tile, map_weight, H, W, BLOCK_P, TILE, PLANES)
    if ALONG_CLASSES:
        _store_score(score, partials, band, map_weight, H, W, BLOCK_P, TILE, PLANES)
    else:
        k = split * BLOCK_K + tl.arange(0, BLOCK_K)
        tl.store(pooled + k, tl.sum(total, 1) * (1.0 / (H * W)), mask=k < K)


@triton.jit(do_not_specialize=["splits", "bands", "scores"])
def finish_kernel(
    partials,  # [N, splits, PLANES, H * W]
    pools,  # [N, bands, K], none where pooled is done
    score,
    pooled,
    splits,
    bands,
    scores,
    K: tl.constexpr,
    H: tl.constexpr,
    W: tl.constexpr,
    PLANES: tl.constexpr,
    BLOCK: tl.constexpr,
    ACC: tl.constexpr,
):
    """The first `scores` programs sum the score, the others GAP(a)."""
    program = tl.program_id(0)
    if program < scores:
        tiles: tl.constexpr = (H * W + BLOCK - 1) // BLOCK
        n = (program // tiles).to(tl.int64)
        pixel = program % tiles * BLOCK + tl.arange(0, BLOCK)
        y, x = pixel // W, pixel % W
        total = tl.zeros((BLOCK,), ACC)
        for split in range(splits):
            for plane in tl.static_range(PLANES):
                dy = 0 if PLANES == 1 else plane - 1 if PLANES == 3 else plane // 3 - 1
                dx = plane % 3 - 1 if PLANES == 9 else 0
                mask = (y + dy >= 0) & (y + dy < H) & (x + dx >= 0) & (x + dx < W)
                place = ((n * splits + split) * PLANES + plane) * (H * W) + pixel + (dy * W + dx)
                total += tl.load(partials + place, mask=mask & (pixel < H * W), other=0.0)
        tl.store(score + n * (H * W) + pixel, total, mask=pixel < H * W)
    else:
        if pools is not None:
            blocks: tl.constexpr = (K + BLOCK - 1) // BLOCK
            n = ((program - scores) // blocks).to(tl.int64)
            k = (program - scores) % blocks * BLOCK + tl.arange(0, BLOCK)
            total = tl.zeros((BLOCK,), ACC)
            for band in range(bands):
                total += tl.load(pools + (n * bands + band) * K + k, mask=k < K, other=0.0)
            tl.store(pooled + n * K + k, total, mask=k < K)


@triton.jit
def _store_score(
    part,
    partials,
    tile,
    map_weight,
    H: tl.constexpr,
    W: tl.constexpr,
    BLOCK_P: tl.constexpr,
    TILE: tl.constexpr,
    PLANES: tl.constexpr,
):
    if map_weight is None:
        lane = tl.arange(0, BLOCK_P)
        tl.store(partials + tile * TILE + lane, part, mask=_inside(tile, lane, H * W, TILE))
    else:
        _store_planes(part, partials, tile, H, W, BLOCK_P, TILE, PLANES)


@triton.jit
def _score_gradient(
    d_score,
    map_weight,
    n,
    tile,
    H: tl.constexpr,
    W: tl.constexpr,
    BLOCK_P: tl.constexpr,
    TILE: tl.constexpr,
    HALO: tl.constexpr,
    OPERAND: tl.constexpr,
    ACC: tl.constexpr,
):
    """The score's gradient where each tap of a pixel went, [16, pixels]; of the log map, of the pixels themselves."""
    if map_weight is None:
        lane = tl.arange(0, BLOCK_P)
        place = d_score + n * (H * W) + tile * TILE + lane
        value = tl.load(place, mask=_inside(tile, lane, H * W, TILE), other=0.0).to(ACC)
    else:
        value = _shifted(d_score, n, tile, H, W, BLOCK_P, TILE, HALO, ACC).to(OPERAND)
    return value


@triton.jit
def _pool_gradient(d_pooled, k, K: tl.constexpr, PIXELS: tl.constexpr, ACC: tl.constexpr):
    """GAP's gradient at each pixel of a class."""
    return _vector(d_pooled, k, K, ACC) * (1.0 / PIXELS)


@triton.jit
def _store_sums(
    first,
    second,
    d_pooled,
    scale,
    shift,
    centre,
    map_weight,
    sums,
    k,
    DTYPE: tl.constexpr,
    K: tl.constexpr,
    PIXELS: tl.constexpr,
    ACC: tl.constexpr,
):
    if map_weight is None:
        tl.store(sums + k, first, mask=k < K)
        tl.store(sums + K + k, second, mask=k < K)
    else:
        t = tl.arange(0, 16)[None, :]
        slope, base = _vector(scale, k, K, ACC), _vector(shift, k, K, ACC)
        if centre is not None:
            mean = _vector(centre, k, K, ACC)
            base += slope * mean
            if DTYPE.primitive_bitwidth <= 16:  # z itself has no rounding in 16 bits, z - mean has
                second -= first * mean[:, None]
        pool = _pool_gradient(d_pooled, k, K, PIXELS, ACC)
        weights = tl.where(t == 9, pool[:, None], tl.trans(_weights(map_weight, k, K, DTYPE, ACC)).to(ACC))
        tl.store(sums + k, tl.sum(weights * first, 1), mask=k < K)
        tl.store(sums + K + k, tl.sum(weights * second, 1), mask=k < K)
        gradient = second * slope[:, None] + first * base[:, None]
        tl.store(sums + (2 + t) * K + k[:, None], gradient, mask=(t < 9) & (k < K)[:, None])


@triton.jit(do_not_specialize=_RUNTIME)
def backward_kernel(
    d_pooled,
    d_score,
    z,
    scale,
    shift,
    centre,  # the batch's mean; none where statistics were given
    map_weight,
    lines,  # [2, K]: slope and level of a line in z to be added to its gradient; none where statistics were given
    sums,  # [N, bands, 2 + taps, K]: sums of da * m, of that times z - centre, and of map_weight; or none
    d_z,  # or none
    splits,
    bands,
    steps,
    K: tl.constexpr,
    H: tl.constexpr,
    W: tl.constexpr,
    STRIDE_K: tl.constexpr,
    STRIDE_P: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_P: tl.constexpr,
    TILE: tl.constexpr,
    HALO: tl.constexpr,
    CLASSES_LAST: tl.constexpr,  # the product lies in registers as classes do in memory
    ALONG_CLASSES: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
    ACC: tl.constexpr,
):
    """With m = 1[a > 0] and ds_t the score's gradient at tap t, sums of m * ds_t and m * z * ds_t give all the sums."""
    program = tl.program_id(0)
    split, band = program % splits, program // splits % bands
    n = (program // splits // bands).to(tl.int64)
    dtype: tl.constexpr = z.dtype.element_ty
    WITH_D_A: tl.constexpr = d_z is not None or map_weight is None  # else the sums do without it
    d_pooled += n * K
    if sums is not None:
        sums += (n * bands + band) * (K * (2 if map_weight is None else 11))
    if map_weight is None:
        first, second = tl.zeros((BLOCK_K,), ACC), tl.zeros((BLOCK_K,), ACC)
    else:
        first, second = tl.zeros((BLOCK_K, 16), ACC), tl.zeros((BLOCK_K, 16), ACC)
    if ALONG_CLASSES:
        d_s = _score_gradient(d_score, map_weight, n, band, H, W, BLOCK_P, TILE, HALO, OPERAND, ACC)
    elif WITH_D_A:
        pool = _pool_gradient(d_pooled, split * BLOCK_K + tl.arange(0, BLOCK_K), K, H * W, ACC)
    for step in range(steps):
        block = split * steps + step if ALONG_CLASSES else split
        tile = band if ALONG_CLASSES else band * steps + step
        k = block * BLOCK_K + tl.arange(0, BLOCK_K)
        start, offset, mask = _place(n, block, tile, K, H * W, STRIDE_K, STRIDE_P, BLOCK_K, BLOCK_P, TILE)
        value = tl.load(z + start + offset, mask=mask, other=0.0).to(ACC)
        slope = _vector(scale, k, K, ACC)[:, None]
        line = value * slope + _vector(shift, k, K, ACC)[:, None]
        if not ALONG_CLASSES:
            d_s = _score_gradient(d_score, map_weight, n, tile, H, W, BLOCK_P, TILE, HALO, OPERAND, ACC)
        if WITH_D_A:
            if ALONG_CLASSES:
                pool = _pool_gradient(d_pooled, k, K, H * W, ACC)
            if map_weight is None:
                if dtype.primitive_bitwidth == 16:
                    root = tl.rsqrt(1.0 + line)
                    d_a = pool[:, None] + d_s[None, :] * (root * root)  # division takes eight instructions
                else:
                    d_a = pool[:, None] + d_s[None, :] / (1.0 + line)
            else:
                weights = _weights(map_weight, k, K, dtype, ACC).to(OPERAND)
                if CLASSES_LAST:
                    d_a = pool[None, :] + tl.zeros((BLOCK_P, BLOCK_K), ACC)
                    d_a = tl.dot(tl.trans(d_s), weights, d_a, input_precision=PRECISION, out_dtype=ACC)
                    d_a = tl.trans(d_a)
                else:
                    d_a = pool[:, None] + tl.zeros((BLOCK_K, BLOCK_P), ACC)
                    d_a = tl.dot(tl.trans(weights), d_s, d_a, input_precision=PRECISION, out_dtype=ACC)
            d_a = tl.where(line <= 0.0, 0.0, d_a)
        if sums is not None:
            if map_weight is None:
                d_a = tl.where(mask, d_a, 0.0)
                part, other = tl.sum(d_a, 1), tl.sum(d_a * _centred(value, centre, k, K, ACC), 1)
            else:
                active = tl.where(line <= 0.0, 0.0, 1.0)
                inner = value if dtype.primitive_bitwidth == 16 else _centred(value, centre, k, K, ACC)
                inner = (active * inner).to(dtype).to(OPERAND)
                part = tl.dot(active.to(OPERAND), tl.trans(d_s), input_precision=PRECISION, out_dtype=ACC)
                other = tl.dot(inner, tl.trans(d_s), input_precision=PRECISION, out_dtype=ACC)
            if ALONG_CLASSES:
                _store_sums(part, other, d_pooled, scale, shift, centre, map_weight, sums, k, dtype, K, H * W, ACC)
            else:
                first += part
                second += other
        if d_z is not None:
            d_a *= slope
            if lines is not None:
                d_a += value * _vector(lines, k, K, ACC)[:, None] + _vector(lines + K, k, K, ACC)[:, None]
            tl.store(d_z + start + offset, d_a, mask=mask)
    if sums is not None and not ALONG_CLASSES:
        k = split * BLOCK_K + tl.arange(0, BLOCK_K)
        _store_sums(first, second, d_pooled, scale, shift, centre, map_weight, sums, k, dtype, K, H * W, ACC)


@triton.jit
def _centred(value, centre, k, K: tl.constexpr, ACC: tl.constexpr):
    if centre is not None:
        value -= _vector(centre, k, K, ACC)[:, None]
    return value


@triton.jit(do_not_specialize=["count", "total"])
def sum_kernel(
    sums,  # [count, ROWS, K]
    scale,
    centre,
    inverse,  # 1 / deviation; with it, scale and shift in d_scale and d_shift are weight and bias
    d_scale,
    d_shift,
    lines,  # [2, K]: what the statistics add to the gradient of z is a line in z, its slope and level; or none
    d_map_weight,
    count,
    total,
    ROWS: tl.constexpr,
    K: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_COUNT: tl.constexpr,
    ACC: tl.constexpr,
):
    row, block = tl.program_id(0) % (ROWS - 1), tl.program_id(0) // (ROWS - 1)
    k = block * BLOCK_K + tl.arange(0, BLOCK_K)
    last = _sum_row(sums, row + 1, k, count, ROWS, K, BLOCK_K, BLOCK_COUNT, ACC)
    if row == 0:
        shifts = _sum_row(sums, 0, k, count, ROWS, K, BLOCK_K, BLOCK_COUNT, ACC)
        scales = last
        if inverse is not None:
            deviation = _vector(inverse, k, K, ACC)
            scales *= deviation
            share = -_vector(scale, k, K, ACC) / total.to(ACC)
            slope = share * scales * deviation
            tl.store(lines + k, slope, mask=k < K)
            tl.store(lines + K + k, share * shifts - slope * _vector(centre, k, K, ACC), mask=k < K)
        tl.store(d_scale + k, scales, mask=k < K)
        tl.store(d_shift + k, shifts, mask=k < K)
    else:
        if ROWS > 2:
            tl.store(d_map_weight + k * 9 + (row - 1), last, mask=k < K)


@triton.jit
def _sum_row(
    sums,
    row,
    k,
    count,
    ROWS: tl.constexpr,
    K: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_COUNT: tl.constexpr,
    ACC: tl.constexpr,
):
    total = tl.zeros((BLOCK_COUNT, BLOCK_K), ACC)
    for chunk in range(0, count, BLOCK_COUNT):
        i = chunk + tl.arange(0, BLOCK_COUNT)
        place = (i.to(tl.int64) * (ROWS * K))[:, None] + (row * K + k)[None, :]
        total += tl.load(sums + place, mask=(i < count)[:, None] & (k < K)[None, :], other=0.0)
    return tl.sum(total, 0)
