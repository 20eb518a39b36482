"""The fused product and what finishes its sums.

Pixels are counted through a group of images, one image or all: tiles of them are not bound to an image's edges. A
program computes the class evidence of a tile of pixels, block of classes by block, and keeps its sums only.
"""

# ruff: noqa: N803 - a constexpr is written in capitals
# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl

# these follow the batch size, for which nothing is compiled anew
_RUNTIME = ["batch", "group", "tiles"]


@triton.jit
def _log1p(a):
    sum_ = 1.0 + a
    return tl.log(sum_) + (a - (sum_ - 1.0)) / sum_  # and what the sum has rounded away


@triton.jit(do_not_specialize=_RUNTIME)
def evidence_kernel(
    stage_output,
    weight,
    bias,
    map_weight,
    pooled,  # GAP, [N, K], or sums over the pixels of each tile and image, [groups, tiles, SLOTS, K]
    taps,  # [N, PARTS, 9, H * W], or log maps, [N, PARTS, H * W]: sums over the classes of each part
    batch,
    group,
    tiles,
    CHANNELS: tl.constexpr,
    CLASSES: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    PARTS: tl.constexpr,
    BLOCKS: tl.constexpr,
    SLOTS: tl.constexpr,
    WHOLE: tl.constexpr,
    LOG_MAP: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_CLASSES: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    DOT_TAPS: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
    ACC: tl.constexpr,
):
    program = tl.program_id(0)
    part = program % PARTS
    tile = program // PARTS % tiles
    block_of_images = (program // PARTS // tiles).to(tl.int64)
    start = block_of_images * group  # first image of the group
    images = tl.minimum(group, batch - start).to(tl.int32)

    q = tile * BLOCK_PIXELS + tl.arange(0, BLOCK_PIXELS)  # pixels of the group
    image = q // PIXELS
    pixel = q % PIXELS
    inside = q < images * PIXELS
    n = start + image.to(tl.int64)
    c = tl.arange(0, BLOCK_CHANNELS)
    if CHANNELS_LAST:
        f = stage_output + ((n * PIXELS + pixel) * CHANNELS)[:, None] + c[None, :]
        step = BLOCK_CHANNELS
    else:
        f = stage_output + (n * (CHANNELS * PIXELS) + pixel)[:, None] + c[None, :] * PIXELS
        step = BLOCK_CHANNELS * PIXELS

    tap = tl.arange(0, 16)
    if LOG_MAP:
        score = tl.zeros((BLOCK_PIXELS,), ACC)
    else:
        nine = tl.zeros((BLOCK_PIXELS, 16), ACC)
    for block in range(BLOCKS):
        k = (part * BLOCKS + block) * BLOCK_CLASSES + tl.arange(0, BLOCK_CLASSES)
        known = k < CLASSES
        w = weight + (k.to(tl.int64) * CHANNELS)[None, :] + c[:, None]
        acc = tl.zeros((BLOCK_PIXELS, BLOCK_CLASSES), ACC)
        for chunk in range(tl.cdiv(CHANNELS, BLOCK_CHANNELS)):
            if CHANNELS % BLOCK_CHANNELS == 0:
                f_mask, w_mask = inside[:, None], known[None, :]
            else:
                rest = c < CHANNELS - chunk * BLOCK_CHANNELS
                f_mask, w_mask = inside[:, None] & rest[None, :], known[None, :] & rest[:, None]
            f_tile = tl.load(
                f + tl.cast(chunk, tl.int64) * step, mask=f_mask, other=0.0
            )  # [BLOCK_PIXELS, BLOCK_CHANNELS]
            w_tile = tl.load(w + chunk * BLOCK_CHANNELS, mask=w_mask, other=0.0)  # [BLOCK_CHANNELS, BLOCK_CLASSES]
            acc = tl.dot(f_tile.to(OPERAND), w_tile.to(OPERAND), acc, input_precision=PRECISION, out_dtype=ACC)
        a = tl.maximum(acc + tl.load(bias + k, mask=known, other=0.0).to(ACC)[None, :], 0.0)

        if LOG_MAP:
            score += tl.sum(_log1p(a), 1)
        else:
            rounded = a.to(stage_output.dtype.element_ty)
            if DOT_TAPS:
                m = map_weight + k[:, None] * 9 + tap[None, :]
                m_tile = tl.load(m, mask=known[:, None] & (tap < 9)[None, :], other=0.0)
                m_tile = m_tile.to(stage_output.dtype.element_ty).to(OPERAND)  # [BLOCK_CLASSES, 16]
                nine = tl.dot(rounded.to(OPERAND), m_tile, nine, out_dtype=ACC)
            else:
                for t in tl.static_range(9):
                    m = tl.load(map_weight + k * 9 + t, mask=known, other=0.0).to(stage_output.dtype.element_ty)
                    products = rounded.to(ACC) * m.to(ACC)[None, :]
                    nine += tl.where(tap == t, tl.sum(products, 1)[:, None], 0.0)
        first = tile * BLOCK_PIXELS // PIXELS
        for slot in range(SLOTS):
            total = tl.sum(tl.where((image == first + slot)[:, None], a, 0.0), 0)  # [BLOCK_CLASSES]
            mine = k < tl.where(first + slot < images, CLASSES, 0)
            if WHOLE:
                tl.store(pooled + (start + first + slot) * CLASSES + k, total / PIXELS, mask=mine)
            else:
                row = (block_of_images * tiles + tile) * SLOTS + slot
                tl.store(pooled + row * CLASSES + k, total, mask=mine)

    if LOG_MAP:
        tl.store(taps + (n * PARTS + part) * PIXELS + pixel, score, mask=inside)
    else:
        place = ((n * PARTS + part) * (9 * PIXELS) + pixel)[:, None] + tap[None, :] * PIXELS
        tl.store(taps + place, nine, mask=inside[:, None] & (tap < 9)[None, :])


@triton.jit
def pool_classes(
    program,
    sums,  # [groups, tiles, SLOTS, K]
    pooled,
    group,
    tiles,
    CLASSES: tl.constexpr,
    PIXELS: tl.constexpr,
    SLOTS: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_CLASSES: tl.constexpr,
    ACC: tl.constexpr,
):
    """What the program of that number does: GAP of a block of an image's classes."""
    n = program // tl.cdiv(CLASSES, BLOCK_CLASSES)
    k = program % tl.cdiv(CLASSES, BLOCK_CLASSES) * BLOCK_CLASSES + tl.arange(0, BLOCK_CLASSES)
    image = n % group
    first = image * PIXELS // BLOCK_PIXELS
    last = ((image + 1) * PIXELS - 1) // BLOCK_PIXELS
    total = tl.zeros((BLOCK_CLASSES,), ACC)
    for tile in range(first, last + 1):
        slot = image - tile * BLOCK_PIXELS // PIXELS
        row = ((n // group).to(tl.int64) * tiles + tile) * SLOTS + slot
        total += tl.load(sums + row * CLASSES + k, mask=k < CLASSES, other=0.0)
    tl.store(pooled + n.to(tl.int64) * CLASSES + k, total / PIXELS, mask=k < CLASSES)


@triton.jit(do_not_specialize=["group", "tiles"])
def pool_kernel(
    sums,
    pooled,
    group,
    tiles,
    CLASSES: tl.constexpr,
    PIXELS: tl.constexpr,
    SLOTS: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_CLASSES: tl.constexpr,
    ACC: tl.constexpr,
):
    pool_classes(tl.program_id(0), sums, pooled, group, tiles, CLASSES, PIXELS, SLOTS, BLOCK_PIXELS, BLOCK_CLASSES, ACC)
